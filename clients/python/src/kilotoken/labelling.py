"""Fields that every event recorded within a block gets: who is asking, in which session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[Mapping[str, str]] = ContextVar("kilotoken_labels")


@contextmanager
def labels(**these: str) -> Iterator[None]:
    """Add fields (project, agent, session, api_key, region) to what is recorded within.

    Follows threads of control, not threads: each asyncio task sees its own.
    """
    token = _current.set({**_current.get({}), **these})
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Mapping[str, str]:
    """The fields in force here."""
    return _current.get({})
