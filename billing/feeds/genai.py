"""The prices inside the package genai-prices, which is pinned; nothing is fetched.

Prices that depend on the time of day or on how a request was processed are not taken: a cost has
one price at an instant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time
from importlib import metadata
from pathlib import Path
from typing import Any

from billing.feeds.listing import Fault, FeedRefused, Listed, ListedModel, Listing, listed

SOURCE = "genai-prices"
_REGISTERS = {
    "input_mtok": ("input",),
    "output_mtok": ("output", "reasoning"),
    "output_reasoning_mtok": ("reasoning",),
    "cache_read_mtok": ("cache_read",),
    "cache_write_mtok": ("cache_write",),
    "cache_write_1h_mtok": ("cache_write_1h",),
    "input_audio_mtok": ("input_audio",),
    "output_audio_mtok": ("output_audio",),
    "cache_audio_read_mtok": ("cache_read_audio",),
    "input_image_mtok": ("input_image",),
    "output_image_mtok": ("output_image",),
    "input_video_mtok": ("input_video",),
}


def read(on: date) -> Listing:
    """Read the package's prices as they hold on a day."""
    from genai_prices import data  # 1.5 MB of source: only whoever imports prices pays for it

    assert data.__file__ is not None
    digest = hashlib.sha256(Path(data.__file__).read_bytes()).hexdigest()
    return read_providers(data.providers, on, metadata.version(SOURCE), digest)


def read_providers(providers: Iterable[Any], on: date, version: str, digest: str) -> Listing:
    """The same from providers in the package's own form."""
    prices: list[Listed] = []
    models: list[ListedModel] = []
    faults: list[Fault] = []
    for provider in providers:
        for model in provider.models:
            for found in _prices(provider.id, model, on):
                (prices if isinstance(found, Listed) else faults).append(found)  # type: ignore[arg-type]
            models.append(
                ListedModel(
                    provider.id,
                    model.id,
                    model.name or "",
                    model.context_window,
                    tuple(name for name in _equals(model.match) if name != model.id),
                )
            )
    if not prices:
        raise FeedRefused("The package has no price of any model.")
    return Listing(SOURCE, version, digest, tuple(prices), tuple(models), tuple(faults))


def _prices(provider: str, model: Any, on: date) -> Iterator[Listed | Fault]:
    pointer = f"/{provider}/{model.id.replace('~', '~0').replace('/', '~1')}"
    conditional = model.prices if isinstance(model.prices, list) else None
    if conditional is None:
        yield from _registers(pointer, provider, model, model.prices, None)
        return
    if any(hasattr(one.constraint, "start_time") for one in conditional):
        yield Fault(pointer, "costs depend on the time of day; enter them as a tariff instead")
        return
    since = None
    held = None
    for one in conditional:  # the last that holds applies, as in the package
        start = getattr(one.constraint, "start_date", None)
        if start is None or start <= on:
            held, since = one.prices, start
    if held is not None:
        starts = datetime.combine(since, time(), UTC) if since else None
        yield from _registers(pointer, provider, model, held, starts)


def _registers(
    pointer: str, provider: str, model: Any, prices: Any, since: datetime | None
) -> Iterator[Listed | Fault]:
    by_field = vars(prices) if hasattr(prices, "__dict__") else prices
    for field, registers in _REGISTERS.items():
        value = by_field.get(field)
        if value is None:
            continue
        tiers = [(0, getattr(value, "base", value))]
        tiers += [(tier.start, tier.price) for tier in getattr(value, "tiers", ())]
        for register in registers:
            own = by_field.get("output_reasoning_mtok")
            if register == "reasoning" and field == "output_mtok" and own is not None:
                continue
            for above, price in tiers:
                entry = Listed(provider, model.id, register, price, above, since)
                yield from listed(f"{pointer}/{field}", entry)


def _equals(clause: Any) -> Iterator[str]:
    """The names that are said to be this model, one by one; patterns are no names."""
    if (name := getattr(clause, "equals", None)) is not None:
        yield str(name)
    for one in getattr(clause, "or_", ()):
        yield from _equals(one)
