"""Energy and carbon: an estimate of what requests used, and the two ways to count its carbon.

The form of EcoLogits: energy per output token falls with the batch and rises with the active
parameters. It ignores input tokens. A measured register beats it, and a statement says which it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, localcontext

_DIGITS = 30  # an estimate; no money hangs on it
_ALPHA, _BETA, _GAMMA = Decimal("1.17e-6"), Decimal("-0.0112"), Decimal("4.05e-5")
_BATCH = 64
_BITS_A_WEIGHT, _GPU_GB, _OVERHEAD = 16, 80, Decimal("1.2")
_SERVER_KW, _GPUS_A_SERVER = Decimal("1.2"), 8


@dataclass(frozen=True, slots=True)
class Model:
    """Parameters in billions: those that work on a token, and all of them."""

    active: Decimal
    total: Decimal

    @property
    def gpus(self) -> int:
        """Return how many hold the weights: a power of two."""
        weights_gb = self.total * _BITS_A_WEIGHT / 8
        needed = _OVERHEAD * weights_gb / _GPU_GB
        gpus = 1
        while gpus < needed:
            gpus *= 2
        return gpus

    @property
    def wh_per_token_and_gpu(self) -> Decimal:
        with localcontext(prec=_DIGITS):
            return _ALPHA * (_BETA * _BATCH).exp() * self.active + _GAMMA


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one place: kilowatt-hours and its grid's grams a kilowatt-hour."""

    kwh: Decimal
    grams_per_kwh: Decimal


@dataclass(frozen=True, slots=True)
class Carbon:
    """Grams by place, grams after certificates, and the share that they cover."""

    location_g: Decimal
    market_g: Decimal
    green_share: Decimal


def request_wh(
    model: Model, *, output_tokens: int, tokens_a_second: Decimal, pue: Decimal
) -> Decimal:
    """Estimate a request's energy in watt-hours, the data centre's overhead included."""
    with localcontext(prec=_DIGITS):
        hours = Decimal(output_tokens) / tokens_a_second / 3600
        server = hours * _SERVER_KW * 1_000 * model.gpus / _GPUS_A_SERVER / _BATCH
        gpus = model.gpus * output_tokens * model.wh_per_token_and_gpu
        return pue * (server + gpus)


def grams(watt_hours: Decimal, grams_per_kwh: Decimal) -> Decimal:
    """Return the carbon of an energy by the place where it was used."""
    with localcontext(prec=_DIGITS):
        return watt_hours / 1_000 * grams_per_kwh


def statement(places: Iterable[Energy], certificates_kwh: Decimal) -> Carbon:
    """Count carbon both ways. Certificates cover all places in proportion, matched by the year."""
    used = list(places)
    with localcontext(prec=_DIGITS):
        kwh = sum((one.kwh for one in used), Decimal(0))
        location = sum((one.kwh * one.grams_per_kwh for one in used), Decimal(0))
        green = min(Decimal(1), certificates_kwh / kwh) if kwh else Decimal(0)
        return Carbon(location, location * (1 - green), green)
