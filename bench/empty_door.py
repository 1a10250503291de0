"""What single events are compared with: the same door and checks, the body read, nothing stored."""

from __future__ import annotations

from http import HTTPStatus

from metering.ingest import rsgi
from metering.ingest.answer import Answer
from metering.ingest.door import Admitted
from metering.ingest.rsgi import Exchange


class EmptyDoor(rsgi.Application):
    """Answers an empty 202 to who may report."""

    async def _answer(self, admitted: Admitted, exchange: Exchange, request_id: str) -> Answer:
        await exchange()
        return Answer(HTTPStatus.ACCEPTED, b"")


application = EmptyDoor()
