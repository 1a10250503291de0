"""Voucher numbers: what prepayment meters taught about them.

A standard meter's token carries the minute of its sale in 24 bits. Those ran out on 2024-11-24, and
millions of meters had to be visited. Ours are numbers of 64 bits beside an epoch of the key; the
old identifier is kept for reading what other systems issued.
"""

from datetime import datetime, timedelta

BASE = datetime(1993, 1, 1)  # noqa: DTZ001 - the standard counts local minutes, without a zone
BITS = 24
_MINUTE = timedelta(minutes=1)


def minutes_since_base(sold_at: datetime) -> int:
    """Return the whole minutes since the base date, by the clock of the vendor."""
    return (sold_at - BASE) // _MINUTE


def identifier(sold_at: datetime) -> int:
    """Return the identifier as a meter of 24 bits sees it: it starts anew after the roll-over."""
    return minutes_since_base(sold_at) % (1 << BITS)


def rolls_over_at() -> datetime:
    """Return the first minute that 24 bits cannot tell from the base date."""
    return BASE + (1 << BITS) * _MINUTE
