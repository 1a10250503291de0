"""Report token usage to Kilotoken so that none is lost and none counts twice."""

from kilotoken.aio import AsyncMeter
from kilotoken.backfilling import BackfillError, Backfills, backfill
from kilotoken.dialects import InconsistentUsage, Measured, UnreadableUsage
from kilotoken.event import Event, InvalidEvent
from kilotoken.labelling import labels
from kilotoken.meter import Meter
from kilotoken.wrapping import by_characters

__all__ = [
    "AsyncMeter",
    "BackfillError",
    "Backfills",
    "Event",
    "InconsistentUsage",
    "InvalidEvent",
    "Measured",
    "Meter",
    "UnreadableUsage",
    "backfill",
    "by_characters",
    "labels",
]
