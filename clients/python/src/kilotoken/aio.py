"""The meter for code that must not block an event loop: another door, no other rules.

Spool, sending and every decision are the `Meter`'s. Only the waiting differs: it is awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

from kilotoken.meter import EXIT_S, Meter, Offer
from kilotoken.writing import kept_soon

C = TypeVar("C")


class AsyncMeter:
    """Awaitable twin of `Meter`: takes the same arguments, or stands before an existing one."""

    def __init__(self, *args: Any, meter: Meter | None = None, **options: Any) -> None:
        self.meter = meter or Meter(*args, **options)

    async def __aenter__(self) -> AsyncMeter:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def record(self, *, model: str, usage: Mapping[str, int], **fields: Any) -> str | None:
        """See `Meter.record`."""
        return await self._settled(self.meter.offer(model=model, usage=usage, **fields))

    async def record_usage(
        self, usage: object, *, model: str, dialect: str | None = None, **fields: Any
    ) -> str | None:
        """See `Meter.record_usage`."""
        offer = self.meter.offer_usage(usage, model=model, dialect=dialect, **fields)
        return await self._settled(offer)

    async def void(self, event_id: str, **fields: Any) -> str | None:
        """See `Meter.void`."""
        return await self._settled(self.meter.offer_void(event_id, **fields))

    async def amend(
        self,
        event_id: str,
        *,
        model: str,
        usage: Mapping[str, int],
        occurred_at: datetime,
        **fields: Any,
    ) -> str | None:
        """See `Meter.amend`."""
        whole = {**fields, "occurred_at": occurred_at, "amends": event_id}
        return await self._settled(self.meter.offer(model=model, usage=usage, **whole))

    def wrap(self, client: C, **options: Any) -> C:
        """See `Meter.wrap`."""
        return self.meter.wrap(client, **options)

    async def flush(self, timeout_s: float = EXIT_S) -> bool:
        """See `Meter.flush`."""
        return await asyncio.to_thread(self.meter.flush, timeout_s)

    async def close(self, timeout_s: float = EXIT_S) -> bool:
        """See `Meter.close`."""
        return await asyncio.to_thread(self.meter.close, timeout_s)

    async def _settled(self, offer: Offer | None) -> str | None:
        return offer.id if offer and await kept_soon(offer.kept, self.meter.wait_s) else None
