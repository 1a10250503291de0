"""How many tokens an image is: patches of a side, after scaling, and two markers."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext

MARKERS = 2  # start and end of the image
PATCHES_MIN = 4
PATCHES_MAX = 2_560


@dataclass(frozen=True, slots=True)
class Vision:
    """A model's patch side in pixels, and the most patches an image is scaled to."""

    patch: int
    patches_max: int = PATCHES_MAX

    def tokens(self, height: int, width: int) -> int:
        """Return the tokens of an image. Sides are rounded half to even, as the model does."""
        high, wide = self._side(height), self._side(width)
        area = self.patch * self.patch
        if high * wide > self.patches_max * area:
            high, wide = self._scaled(height, width, self.patches_max, ROUND_FLOOR)
        elif high * wide < PATCHES_MIN * area:
            high, wide = self._scaled(height, width, PATCHES_MIN, ROUND_CEILING)
        return high * wide // area + MARKERS

    def _side(self, pixels: int) -> int:
        patches = (Decimal(pixels) / self.patch).to_integral_value(rounding=ROUND_HALF_EVEN)
        return int(patches) * self.patch

    def _scaled(self, height: int, width: int, patches: int, rounding: str) -> tuple[int, int]:
        """Scale both sides by one factor, so that the area is that of so many patches."""
        with localcontext(prec=50):
            area = Decimal(patches * self.patch * self.patch)
            factor = (area / (Decimal(height) * width)).sqrt()
            sides = [
                int((side * factor / self.patch).to_integral_value(rounding=rounding)) * self.patch
                for side in (height, width)
            ]
        return max(self.patch, sides[0]), max(self.patch, sides[1])
