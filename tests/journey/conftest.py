"""What journeys share: a running Kilotoken, and no whole traces unless asked for."""

from __future__ import annotations

import pytest

from tests.journey.live import live

__all__ = ["live"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless -m names it."""
    if "whole" in (config.option.markexpr or ""):
        return
    whole = [item for item in items if item.get_closest_marker("whole")]
    config.hook.pytest_deselected(items=whole)
    items[:] = [item for item in items if item not in whole]
