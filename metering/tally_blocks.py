"""Tallies of all events of a stretch of time, however many, from blocks that were counted before.

Going through a hundred million events takes minutes, so it is done block by block: the applied
batches from one number to another, half a million events together. What a batch holds never
changes; what may is whether it counts (a revert), by which sizes it is told apart, and which of
its events are taken back. A block says what of that it was counted with. Whoever reads it compares,
as of one instant, so a tally is exact or it is not used; what no block covers is gone through.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction

from metering.tallies import Kind, Tally, tallies

BLOCK_EVENTS = 500_000
KEPT_DAYS = 30

BLOCKS = """
    SELECT first_id, last_id, batches, limits_sum, voids, events, applied_first, applied_last
    FROM metering_tallyblock
    WHERE organization_id = %(organization_id)s AND ends_at = %(end)s AND starts = %(starts)s
    ORDER BY first_id
"""
# Batches with an event that may lie in the stretch.
_TOUCHING = """
    batch.organization_id = %(organization_id)s
    AND batch.occurred_last >= %(start)s AND batch.occurred_first < %(end)s
"""
_COVERED = """(batch.state = 'applied' AND coalesce(batch.id <=
    (%(lasts)s::bigint[])[width_bucket(batch.id, %(firsts)s::bigint[])], false))"""
# How each block is now, by its number from one on.
NOW = f"""
    SELECT width_bucket(batch.id, %(firsts)s::bigint[]), count(*), sum(batch.limits_version)
    FROM metering_ingestbatch batch
    WHERE {_TOUCHING} AND {_COVERED}
    GROUP BY 1
"""  # noqa: S608
VOIDS = """
    SELECT width_bucket(void.target_batch_id, %(firsts)s::bigint[]), count(*)
    FROM metering_void void
    JOIN metering_ingestbatch taker
      ON taker.organization_id = void.organization_id AND taker.id = void.batch_id
    WHERE void.organization_id = %(organization_id)s AND taker.state = 'applied'
      AND void.target_batch_id <=
          (%(lasts)s::bigint[])[width_bucket(void.target_batch_id, %(firsts)s::bigint[])]
    GROUP BY 1
"""
EVENTS = f"""
    SELECT coalesce(sum(batch.accepted) FILTER (WHERE {_COVERED}), 0), coalesce(sum(batch.accepted), 0)
    FROM metering_ingestbatch batch WHERE {_TOUCHING}
"""  # noqa: S608, E501
UNCOVERED = f"""
    SELECT batch.id, batch.received_at FROM metering_ingestbatch batch
    WHERE {_TOUCHING} AND NOT {_COVERED}
"""  # noqa: S608
# The next batches to count: in a row, up to where a block begins or a batch is on its way.
NEXT = f"""
    SELECT id, received_at, accepted, applied_at, limits_version FROM (
        SELECT batch.*, sum(batch.accepted) OVER (ORDER BY batch.id) - batch.accepted AS before
        FROM metering_ingestbatch batch
        WHERE {_TOUCHING} AND batch.state = 'applied'
          AND batch.id > %(after)s AND batch.id < %(until)s
    ) AS batch
    WHERE before < %(most)s
    ORDER BY id
"""  # noqa: S608
ON_ITS_WAY = """
    SELECT min(id) FROM metering_ingestbatch
    WHERE organization_id = %(organization_id)s AND state = 'pending'
"""
KEEP = """
    INSERT INTO metering_tallyblock (organization_id, starts, ends_at, first_id, last_id, batches,
        limits_sum, voids, events, applied_first, applied_last, tallies)
    VALUES (%(organization_id)s, %(starts)s, %(end)s, %(first_id)s, %(last_id)s, %(batches)s,
        %(limits_sum)s, %(voids)s, %(events)s, %(applied_first)s, %(applied_last)s, %(tallies)s)
"""
LET_GO = """
    DELETE FROM metering_tallyblock
    WHERE organization_id = %(organization_id)s AND ends_at = %(end)s AND starts = %(starts)s
      AND first_id = ANY(%(gone)s)
"""
TALLIES = """
    SELECT tallies FROM metering_tallyblock
    WHERE organization_id = %(organization_id)s AND ends_at = %(end)s AND starts = %(starts)s
      AND first_id = ANY(%(firsts)s)
"""
PURGE = f"""
    DELETE FROM metering_tallyblock
    WHERE counted_at < clock_timestamp() - interval '{KEPT_DAYS} days'
"""  # noqa: S608
LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('metering.tally_blocks', %s))"
WITHOUT_END = 2**63 - 1


class TooManyEvents(Exception):
    """More events than whoever asks would go through are in no block yet."""

    def __init__(self, counted: int, events: int) -> None:
        super().__init__(f"{events - counted} of {events} events are not counted yet")
        self.counted, self.events = counted, events


class Stretch(NamedTuple):
    """Slices of time that tile it, each from its start to the next one's, and the end of all."""

    organization_id: int
    starts: tuple[datetime, ...]
    end: datetime

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "organization_id": self.organization_id,
            "starts": list(self.starts),
            "start": self.starts[0],
            "end": self.end,
        }


class Progress(NamedTuple):
    """How many of the events that a stretch may have are in blocks, and whether that is all."""

    counted: int
    events: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class Block:
    """The applied batches from one number to another, as they were when they were counted."""

    first_id: int
    last_id: int
    batches: int
    limits_sum: int  # grows when a batch is told apart by a newer set of sizes
    voids: int  # of its events, by batches that are applied; never fewer than before
    events: int
    applied_first: datetime
    applied_last: datetime

    def is_late(self, seen_until: datetime | None) -> bool | None:
        """Whether its batches were applied at an instant or later; None where some were."""
        if seen_until is None or self.applied_last < seen_until:
            return False
        return True if self.applied_first >= seen_until else None


def counted(
    stretch: Stretch, *, seen_until: datetime | None = None, events_max: int | None = None
) -> list[Tally]:
    """Every stored event of a stretch, as `tallies` has them, by blocks where there are any.

    To be called within one snapshot. TooManyEvents where more than `events_max` are in no block.
    """
    blocks = [one for one in _valid(stretch) if one.is_late(seen_until) is not None]
    where = {**stretch.parameters, **_ranges(blocks)}
    covered, events = _row(EVENTS, where)
    if events_max is not None and events - covered > events_max:
        raise TooManyEvents(covered, events)
    found: dict[Kind, Tally] = {}
    for late in (False, True):
        chosen = [one.first_id for one in blocks if one.is_late(seen_until) is late]
        for (told,) in _rows(TALLIES, {**where, "firsts": chosen}):
            _add(found, (_told(one, late) for one in json.loads(told)))
    batches = _rows(UNCOVERED, where)
    _add(found, _of_batches(stretch, batches, seen_until))
    return list(found.values())


def count_on(stretch: Stretch) -> Progress:
    """Count one block more, if there is one and nobody else is at it; its own transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute("SET LOCAL enable_mergejoin = off")
        cursor.execute(LOCK, [stretch.organization_id])
        (is_ours,) = cursor.fetchone()
        valid = _valid(stretch)
        made = _make_next(stretch, valid) if is_ours else None
        blocks = sorted([*valid, *([made] if made else [])], key=lambda one: one.first_id)
        covered, events = _row(EVENTS, {**stretch.parameters, **_ranges(blocks)})
    return Progress(covered, events, is_done=made is None)


def purge() -> None:
    """Let go of what was counted long ago; asked for again, it is counted again."""
    with connection.cursor() as cursor:
        cursor.execute(PURGE)


def _valid(stretch: Stretch) -> list[Block]:
    """The blocks that are now as they were counted, in the order of their batches."""
    blocks = [Block(*row) for row in _rows(BLOCKS, stretch.parameters)]
    if not blocks:
        return []
    where = {**stretch.parameters, **_ranges(blocks)}
    now = {number: (batches, sums) for number, batches, sums in _rows(NOW, where)}
    voids = dict(_rows(VOIDS, where))
    return [
        block
        for number, block in enumerate(blocks, 1)
        if now.get(number) == (block.batches, block.limits_sum)
        and voids.get(number, 0) == block.voids
    ]


def _make_next(stretch: Stretch, valid: Sequence[Block]) -> Block | None:
    """Count the first gap between valid blocks, or what follows the last; None if that is little.

    Blocks that are not valid any more make room.
    """
    where = stretch.parameters
    firsts = {first_id for first_id, *_ in _rows(BLOCKS, where)}
    gone = firsts - {one.first_id for one in valid}
    with connection.cursor() as cursor:
        cursor.execute(LET_GO, {**where, "gone": list(gone)})
    after = 0
    for block in valid:
        if made := _make(stretch, after, block.first_id):
            return made
        after = block.last_id
    (on_its_way,) = _row(ON_ITS_WAY, where)
    return _make(stretch, after, on_its_way or WITHOUT_END, whole=True)


def _make(stretch: Stretch, after: int, until: int, *, whole: bool = False) -> Block | None:
    """Count and keep the batches between two numbers, as many as a block has; None for none.

    What follows the last block is counted when there is a whole block of it.
    """
    where = {**stretch.parameters, "after": after, "until": until, "most": BLOCK_EVENTS}
    batches = _rows(NEXT, where)
    events = sum(row[2] for row in batches)
    if not batches or (whole and events < BLOCK_EVENTS):
        return None
    first_id, last_id = batches[0][0], batches[-1][0]
    voids = dict(_rows(VOIDS, {**where, "firsts": [first_id], "lasts": [last_id]}))
    applied = [row[3] for row in batches]
    block = Block(first_id, last_id, len(batches), sum(row[4] for row in batches),
                  voids.get(1, 0), events, min(applied), max(applied))  # fmt: skip
    told = _of_batches(stretch, [row[:2] for row in batches], None)
    with connection.cursor() as cursor:
        cursor.execute(
            KEEP,
            {
                **where,
                **{name: getattr(block, name) for name in Block.__slots__},
                "tallies": json.dumps([[*_columns(one.kind), one.events, one.quantities]
                                       for one in told]),
            },
        )  # fmt: skip
    return block


def _of_batches(
    stretch: Stretch, batches: Collection[Sequence[Any]], seen_until: datetime | None
) -> list[Tally]:
    """The tallies of some batches, each given by its number and when it came."""
    if not batches:
        return []
    return tallies(
        stretch.organization_id, stretch.starts, stretch.end, seen_until=seen_until,
        batches={row[0]: row[1] for row in batches},
    )  # fmt: skip


def _columns(kind: Kind) -> list[Any]:
    return [getattr(kind, name) for name in Kind.__slots__]


def _told(columns: Sequence[Any], late: bool) -> Tally:
    """A tally as a block keeps it."""
    *kind, events, quantities = columns
    values: list[Any] = [tuple(one) if isinstance(one, list) else one for one in kind]
    return Tally(replace(Kind(*values), applied_late=late), events, quantities)


def _add(found: dict[Kind, Tally], more: Iterable[Tally]) -> None:
    for one in more:
        tally = found.setdefault(one.kind, Tally(one.kind))
        tally.events += one.events
        for register, quantity in one.quantities.items():
            tally.quantities[register] = tally.quantities.get(register, 0) + quantity


def _ranges(blocks: Sequence[Block]) -> dict[str, list[int]]:
    """Where blocks begin and end. There is always one, because an empty list has no place in it."""
    return {
        "firsts": [one.first_id for one in blocks] or [WITHOUT_END],
        "lasts": [one.last_id for one in blocks] or [0],
    }


def _rows(statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def _row(statement: str, parameters: dict[str, Any]) -> tuple[Any, ...]:
    return _rows(statement, parameters)[0]
