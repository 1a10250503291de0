"""LiteLLM's map of models (`model_prices_and_context_window.json`), from a file of yours.

Its prices are dollars for one token, as JSON numbers. They are read as decimals: none is rounded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NoReturn

from billing.feeds.listing import PER, Fault, FeedRefused, Listed, ListedModel, Listing, listed

SOURCE = "litellm"
CONTEXT_MAX = 10**9
BYTES_MAX = 32 * 1024 * 1024
_FIELDS = {
    "input_cost_per_token": ("input",),
    "output_cost_per_token": ("output", "reasoning"),
    "output_cost_per_reasoning_token": ("reasoning",),
    "cache_read_input_token_cost": ("cache_read",),
    "cache_creation_input_token_cost": ("cache_write",),
    "cache_creation_input_token_cost_above_1hr": ("cache_write_1h",),
    "input_cost_per_audio_token": ("input_audio",),
    "output_cost_per_audio_token": ("output_audio",),
}
_TIER = re.compile(r"(?P<field>[a-z_]+)_above_(?P<thousands>[1-9][0-9]{0,3})k_tokens")
_OWN = "output_cost_per_reasoning_token"
_SAMPLE = "sample_spec"  # the entry that explains the others
_PROVIDERS = {"gemini": "google", "vertex_ai": "google-vertex", "bedrock": "aws"}


def read(body: bytes, *, version: str = "") -> Listing:
    """Read the file. FeedRefused if it is not one; single wrong entries are its faults."""
    if len(body) > BYTES_MAX:
        raise FeedRefused(f"The file has more than {BYTES_MAX:,} bytes; it is some other file.")
    try:
        document = json.loads(
            body, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as wrong:
        raise FeedRefused(f"The file is no JSON: {wrong}") from None
    if not isinstance(document, dict) or not document:
        raise FeedRefused("The file must be an object of models by name.")
    prices: list[Listed] = []
    faults: list[Fault] = []
    for name, entry in document.items():
        for found in _prices(name, entry) if name != _SAMPLE else ():
            (prices if isinstance(found, Listed) else faults).append(found)  # type: ignore[arg-type]
    if not prices:
        raise FeedRefused("The file has no price of any model; it is some other file.")
    return Listing(
        SOURCE,
        version,
        hashlib.sha256(body).hexdigest(),
        tuple({(one.provider, one.model, one.register, one.above): one for one in prices}.values()),
        tuple(_models(document)),
        tuple(faults),
    )


def _prices(name: str, entry: object) -> Iterator[Listed | Fault]:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    if not isinstance(entry, Mapping):
        yield Fault(pointer, "must be an object")
        return
    provider = entry.get("litellm_provider")
    if not isinstance(provider, str):
        yield Fault(f"{pointer}/litellm_provider", "must name the provider")
        return
    for field, value in entry.items():
        tier = _TIER.fullmatch(str(field))
        base = tier["field"] if tier else str(field)
        above = int(tier["thousands"]) * 1_000 if tier else 0
        for register in _FIELDS.get(base, ()):
            if register == "reasoning" and base == "output_cost_per_token" and _OWN in entry:
                continue
            price = value * PER if isinstance(value, Decimal) else value
            yield from listed(
                f"{pointer}/{field}",
                Listed(_provider(provider), _model(name), register, price, above),
            )


def _models(document: Mapping[str, Any]) -> Iterator[ListedModel]:
    for name, entry in document.items():
        if name == _SAMPLE or not isinstance(entry, Mapping):
            continue
        provider, size = entry.get("litellm_provider"), entry.get("max_input_tokens")
        if isinstance(provider, str):
            context = int(size) if isinstance(size, Decimal) and 0 < size < CONTEXT_MAX else None
            yield ListedModel(_provider(provider), _model(name), context_tokens=context)


def _provider(name: str) -> str:
    return _PROVIDERS.get(name, name)


def _model(name: str) -> str:
    """The name that the upstream knows: the part before the slash is LiteLLM's routing."""
    return name.partition("/")[2] or name


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
