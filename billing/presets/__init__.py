"""Tariffs to start from, by code. `STANDARD` is published with the first organization."""

from __future__ import annotations

from collections.abc import Mapping

from billing.presets.listed import LISTED
from billing.presets.plain import PLAIN
from billing.presets.preset import Preset
from billing.presets.standard import STANDARD

__all__ = ["PRESETS", "STANDARD", "Preset"]

PRESETS: Mapping[str, Preset] = {**STANDARD, **LISTED, **PLAIN}
