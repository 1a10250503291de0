"""Whether the names that an event brings find room; those of an organization that has too many.

Only an event with a name that is not kept yet is refused, and may be sent or replayed once there is
room for it. Everything else of its request goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.conf import settings
from psycopg import Connection

from metering import names
from metering.ingest.decode import Sent
from metering.names import Attribution, Different, Names
from metering.store import Incoming
from metering.usage.event import Rejected, UsageEvent

SHOWN_MAX = 40  # characters of a value
OFFENDERS_MAX = 2


def know(
    connection: Connection[Any], organization_id: int, items: Iterable[Incoming]
) -> tuple[Names, Names]:
    """The numbers of sources and of attributions, made in one go where they are new."""
    items = list(items)
    return (
        names.source_ids(connection, organization_id, {item.event.source for item in items}),
        names.attribution_ids(connection, organization_id, filter(None, map(_attribution, items))),
    )


def named(
    connection: Connection[Any],
    organization_id: int,
    sent: Sent,
    placed: Sequence[Incoming | Rejected],
) -> list[Incoming | Rejected]:
    """What was placed, and refused instead where a name of it finds no room."""
    incoming = [item for item in placed if isinstance(item, Incoming)]
    sources, attributions = know(connection, organization_id, incoming)
    refusing = _Refusing(connection, organization_id)
    found: list[Incoming | Rejected] = []
    for item in placed:
        if isinstance(item, Rejected):
            found.append(item)
        elif item.event.source not in sources:
            found.append(refusing.source(sent, item))
        elif (attribution := _attribution(item)) and attribution not in attributions:
            found.append(refusing.attribution(sent, item))
        else:
            found.append(item)
    return found


def _attribution(item: Incoming) -> Attribution | None:
    """A void has none."""
    if not isinstance(item.event, UsageEvent):
        return None
    return names.attribution(item.event, item.project_id)


class _Refusing:
    """Says what there is too much of; it is counted once for all events of a request."""

    def __init__(self, connection: Connection[Any], organization_id: int) -> None:
        self._connection = connection
        self._organization_id = organization_id
        self._most: list[Different] = []

    def source(self, sent: Sent, item: Incoming) -> Rejected:
        return _refused(sent, item, "source", "sources", f"This one is {_shown(item, 'source')}")

    def attribution(self, sent: Sent, item: Incoming) -> Rejected:
        offenders = self._offenders()
        field = next((one.field for one in offenders if getattr(item.event, one.field)), "")
        counted = " and ".join(f"{one.field} ({one.values:,} values)" for one in offenders)
        here = f"; here {field} is {_shown(item, field)}" if field else ""
        what = f"combinations of project, {', '.join(names.FIELDS)}"
        return _refused(sent, item, field, what, f"The newest differ most in {counted}{here}")

    def _offenders(self) -> list[Different]:
        if not self._most:
            self._most = names.different(self._connection, self._organization_id)
        several = [one for one in self._most if one.values > 1] or self._most
        return several[:OFFENDERS_MAX]


def _shown(item: Incoming, field: str) -> str:
    return ascii(getattr(item.event, field)[:SHOWN_MAX])


def _refused(sent: Sent, item: Incoming, field: str, what: str, which: str) -> Rejected:
    rejected = Rejected(
        "too_many_names",
        sent.pointer(item.ordinal, f"/{field}" if field else ""),
        f"This organization has {settings.INGEST_NAMES_MAX:,} different {what}; no more are kept, "
        f"and this event brings another. {which}. Put what never repeats into session, or have "
        "the operator raise INGEST_NAMES_MAX and send or replay it then.",
        retryable=True,
    )
    rejected.event_id = item.event.id
    return rejected
