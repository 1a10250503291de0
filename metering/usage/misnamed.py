"""Registers that were meant to be other ones. Pure.

Any name may be a register, and one that no price names is priced by nothing: a typing error would
lose money without a word. So a name that reads like a known register, or like a count of a
provider's own, is refused with what was meant; a register of one's own needs a name that cannot be
mistaken.
"""

from __future__ import annotations

import re
from functools import lru_cache

from metering.usage import registers
from metering.usage.dialects import DIALECTS

REMEMBERED_MAX = 10_000
_NOT_DIGITS = re.compile(r"\D")

# What people call a register: "Cached input" is cache_read.
_LABELS = {
    register.label.lower().replace(",", "").replace(" ", "_"): register.name
    for register in registers.KNOWN.values()
}
_COUNTS: dict[str, list[str]] = {}  # a provider's count at the top of its usage, and whose it is
for _dialect in DIALECTS.values():
    for _row in _dialect.rows:
        if "." not in _row.path and _row.path not in registers.KNOWN:
            _COUNTS.setdefault(_row.path, []).append(_dialect.name)


@lru_cache(maxsize=REMEMBERED_MAX)
def advice(name: str) -> str | None:
    """What to do about a register that was probably meant to be another one, or else None."""
    if name in registers.KNOWN:
        return None
    if name in _COUNTS:
        formats = " or ".join(_COUNTS[name])
        return f"It is a provider's count: send that usage whole, with usage_format {formats}."
    known = _LABELS.get(name) or _likely(name.removesuffix("_tokens").removesuffix("_token"))
    if known == registers.REQUESTS:
        return "Requests are counted here, one per event: leave it out."
    return f"Did you mean {known!r}?" if known else None


def _likely(name: str) -> str | None:
    """The known register that a name is, but for one slip of the hand."""
    if name in registers.KNOWN:
        return name
    return next((known for known in registers.KNOWN if _one_slip(name, known)), None)


def _one_slip(name: str, known: str) -> bool:
    """One letter too many, too few, wrong, or two changed about; digits are meant as they are."""
    if abs(len(name) - len(known)) > 1:
        return False
    if _NOT_DIGITS.sub("", name) != _NOT_DIGITS.sub("", known):
        return False
    alike = (one == other for one, other in zip(name, known, strict=False))
    begun = next(
        (place for place, same in enumerate(alike) if not same), min(len(name), len(known))
    )
    one, other = name[begun:], known[begun:]
    if one[1::-1] == other[:2] and one[2:] == other[2:]:
        return True
    return one[1:] == other or one == other[1:] or one[1:] == other[1:]
