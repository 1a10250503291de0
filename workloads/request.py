"""One request to a model, as a workload knows it: when, who, which model, how many of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """Registers are disjoint: a cached token is in `cache_read` and not in `input` as well."""

    id: str
    offset_us: int  # since the workload's first instant; whole microseconds, never a float
    model: str
    quantities: Mapping[str, int]
    client: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)  # project, api_key, agent, region, ...
