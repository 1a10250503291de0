"""Bands of input: how large a request was, as far as any tariff asks.

Readings are sums, and a price that depends on the size of each request cannot be taken from a sum.
So the band of a request's whole input, cached tokens included, is part of its rating key: the
largest limit that the input is above. The limits are rows (`metering.limits`), since tariffs extend
them; attributes stand here, since each needs somebody to say which registers tell it.
"""

from collections.abc import Iterable, Mapping

# What a price may ask of a request besides its size; the registers that tell, if above zero.
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "audio_output": ("output_audio",),
    "media_input": (
        "cache_read_audio", "cache_read_document", "cache_read_image", "cache_read_video",
        "input_audio", "input_document", "input_image", "input_video",
    ),
}  # fmt: skip


def is_input(register: str) -> bool:
    """Whether a register is part of a request's input: plain, cached or written to a cache."""
    if register.endswith(("_hours", "_seconds")):  # a stock that is held, not sent
        return False
    return register.startswith(("input", "cache_"))


def band(usage: Mapping[str, int], limits: Iterable[int]) -> int:
    """The band of a request; its limit belongs to the band below: 32,000 is not above 32,000."""
    tokens = sum(quantity for register, quantity in usage.items() if is_input(register))
    return max((limit for limit in limits if limit < tokens), default=0)


def attributes(usage: Mapping[str, int]) -> tuple[str, ...]:
    """The attributes of a request, as its registers tell them, in alphabetical order."""
    return tuple(
        attribute
        for attribute, telling in ATTRIBUTES.items()
        if any(usage.get(register) for register in telling)
    )
