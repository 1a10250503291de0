"""Corrections on their way in: which event each takes back, and whether it still can.

A batch with corrections is judged inside its own transaction, one such batch of an organization at
a time, so that an event is taken back once however many ask for it. What is taken back stays where
it is: a void is one more row, and the roll-up subtracts what it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from psycopg import Connection

from metering.usage.correction import CORRECTION_AGE_MAX, Correction, too_old
from metering.usage.event import AGE_MAX, Rejected, UsageEvent

Identity = tuple[str, str]  # source and id
Place = tuple[int, int]  # batch and ordinal

_LOCK = 0x6B76_0000_0000_0000  # "kv"; the organization's number is added
LOCK = "SELECT pg_advisory_xact_lock(%s)"

PLACES = """
    SELECT sent.source, sent.id, identity.batch_id, identity.ordinal
    FROM unnest(%(sources)s::text[], %(ids)s::text[]) AS sent (source, id)
    JOIN metering_source source
      ON source.organization_id = %(organization_id)s AND source.name = sent.source
    JOIN metering_identity identity
      ON identity.organization_id = %(organization_id)s AND identity.source_id = source.id
     AND identity.id = metering_packed(sent.id)
"""
# What stands at a place, what it took back if it is a correction, and what took it back.
STANDING = """
    SELECT place.batch_id, place.ordinal, batch.received_at, event.occurred_at, event.project_id,
           CASE WHEN batch.state IN ('reverting', 'reverted') THEN batch.backfill_id END,
           own.target_batch_id, own.target_ordinal, own.reason,
           taken.received_at, taken.is_amendment, metering_unpacked(taker.id)
    FROM unnest(%(batch_ids)s::bigint[], %(ordinals)s::smallint[]) AS place (batch_id, ordinal)
    JOIN metering_ingestbatch batch
      ON batch.organization_id = %(organization_id)s AND batch.id = place.batch_id
    LEFT JOIN metering_event event
      ON event.organization_id = %(organization_id)s AND event.batch_id = place.batch_id
     AND event.received_at = batch.received_at AND event.ordinal = place.ordinal
    LEFT JOIN metering_void own
      ON own.organization_id = %(organization_id)s AND own.batch_id = place.batch_id
     AND own.ordinal = place.ordinal
    LEFT JOIN metering_void taken
      ON taken.organization_id = %(organization_id)s AND taken.target_batch_id = place.batch_id
     AND taken.target_ordinal = place.ordinal
    LEFT JOIN metering_identity taker
      ON taker.organization_id = %(organization_id)s AND taker.batch_id = taken.batch_id
     AND taker.ordinal = taken.ordinal
"""
WRITE = """
    INSERT INTO metering_void (organization_id, target_batch_id, target_received_at, target_ordinal,
        batch_id, received_at, ordinal, is_amendment, reaches_back_to, api_key_id, reason)
    VALUES (%(organization_id)s, %(target_batch_id)s, %(target_received_at)s, %(target_ordinal)s,
        %(batch_id)s, %(received_at)s, %(ordinal)s, %(is_amendment)s, %(reaches_back_to)s,
        %(api_key_id)s, %(reason)s)
"""


class Taking(NamedTuple):
    """What took an event back: its id, when, and whether another event came in its place."""

    id: str
    at: datetime
    is_amendment: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What is stored at a place."""

    place: Place
    received_at: datetime
    occurred_at: datetime | None  # None: a void, which has no usage
    project_id: int | None
    reverted: int | None = None  # the backfill that it was in, if that was reverted
    target: Place | None = None  # what it took back itself
    reason: str | None = None
    taken: Taking | None = None


@dataclass(slots=True)
class Judgement:
    """What becomes of a batch's corrections: some refused, some needless, the others' targets."""

    refused: dict[int, Rejected] = field(default_factory=dict)  # by place in the request
    needless: dict[int, str] = field(default_factory=dict)  # a sentence each
    targets: dict[int, Standing] = field(default_factory=dict)


def lock(connection: Connection[Any], organization_id: int) -> None:
    """Be the only one who takes events of this organization back, until the transaction ends."""
    connection.execute(LOCK, [_LOCK + organization_id])


def places(
    connection: Connection[Any], organization_id: int, identities: Iterable[Identity]
) -> dict[Identity, Place]:
    """Where identities are stored; what is nowhere is not in it."""
    asked = sorted(set(identities))
    parameters = {
        "organization_id": organization_id,
        "sources": [source for source, _ in asked],
        "ids": [event_id for _, event_id in asked],
    }
    rows = connection.execute(PLACES, parameters)
    return {(source, event_id): (batch, ordinal) for source, event_id, batch, ordinal in rows}


def standing(
    connection: Connection[Any], organization_id: int, asked: Iterable[Place]
) -> dict[Place, Standing]:
    """What stands at each place."""
    wanted = sorted(set(asked))
    if not wanted:
        return {}
    rows = connection.execute(
        STANDING,
        {
            "organization_id": organization_id,
            "batch_ids": [batch_id for batch_id, _ in wanted],
            "ordinals": [ordinal for _, ordinal in wanted],
        },
    )
    return {(row[0], row[1]): _standing(row) for row in rows}


def _standing(row: tuple[Any, ...]) -> Standing:
    batch_id, ordinal, received_at, occurred_at, project_id, reverted, *rest = row
    target_batch_id, target_ordinal, reason, taken_at, is_amendment, taker = rest
    return Standing(
        place=(batch_id, ordinal),
        received_at=received_at,
        occurred_at=occurred_at,
        project_id=project_id,
        reverted=reverted,
        target=None if target_batch_id is None else (target_batch_id, target_ordinal),
        reason=reason,
        taken=None if taken_at is None else Taking(taker, taken_at, is_amendment),
    )


@dataclass(slots=True)
class Judge:
    """Judges one batch: its events and corrections in the order in which they were sent.

    `own_project_id` is set for a key of one project, which sees nothing beyond it.
    """

    batch_id: int
    received_at: datetime
    own_project_id: int | None
    known: Mapping[Identity, Place]
    standing: dict[Place, Standing]
    found: Judgement = field(default_factory=Judgement)
    here: dict[Identity, Place] = field(default_factory=dict)  # what came earlier in the batch

    def see(self, ordinal: int, item: UsageEvent | Correction, project_id: int | None) -> None:
        """An event, or the event of an amendment: later corrections may take it back."""
        identity = (item.source, item.id)
        if identity in self.known or identity in self.here:
            return  # a repetition: told when it is compared with what is stored
        place = (self.batch_id, ordinal)
        event = item.event if isinstance(item, Correction) else item
        occurred_at = event.occurred_at if event else None
        self.here[identity] = place
        self.standing[place] = Standing(place, self.received_at, occurred_at, project_id)

    def judge(
        self, ordinal: int, correction: Correction, pointer: str, project_id: int | None
    ) -> None:
        """A correction: find what it takes back, or say why it cannot."""
        identity = (correction.source, correction.id)
        if identity in self.known or identity in self.here:
            return
        pointer += "/amends" if correction.event else "/voids"
        target = self._target(correction)
        try:
            if target is None:
                raise _nothing(correction, pointer)
            needless = _needless(correction, target)
            if needless is None:
                self._may(correction, target, pointer)
        except Rejected as rejected:
            rejected.event_id = correction.id
            self.found.refused[ordinal] = rejected
            return
        if needless is not None:
            self.found.needless[ordinal] = needless
            return
        self.found.targets[ordinal] = target
        self.see(ordinal, correction, project_id)
        taking = Taking(correction.id, self.received_at, correction.event is not None)
        self.standing[target.place] = _taken(target, taking)

    def _target(self, correction: Correction) -> Standing | None:
        identity = (correction.source, correction.target)
        place = self.known.get(identity) or self.here.get(identity)
        target = self.standing.get(place) if place else None
        if target is None or self.own_project_id in (None, target.project_id):
            return target
        return None

    def _may(self, correction: Correction, target: Standing, pointer: str) -> None:
        if target.occurred_at is None:
            raise Rejected(
                "void_is_final",
                pointer,
                f"{correction.target!a} is itself a void, and a void is final. If the usage counts "
                "after all, send it as an event with a new id.",
            )
        if target.taken or target.reverted is not None:
            raise _too_late(correction, target, pointer)
        if too_old(target.occurred_at, self.received_at):
            raise Rejected(
                "timestamp_too_old",
                pointer,
                f"{correction.target!a} happened at {_said(target.occurred_at)}, and usage is "
                f"corrected for {CORRECTION_AGE_MAX.days} days. Agree with the operator on a "
                "credit.",
            )
        event = correction.event
        if event and event.occurred_at < min(self.received_at - AGE_MAX, target.occurred_at):
            raise Rejected(
                "timestamp_too_old",
                pointer.replace("/amends", "/occurred_at"),
                f"occurred_at is more than {AGE_MAX.days} days ago, and lies before that of the "
                f"event it amends ({_said(target.occurred_at)}). Void that one, and send this one "
                "in a backfill.",
            )


def _taken(target: Standing, taking: Taking) -> Standing:
    return Standing(
        target.place, target.received_at, target.occurred_at, target.project_id, target.reverted,
        target.target, target.reason, taking,
    )  # fmt: skip


def _nothing(correction: Correction, pointer: str) -> Rejected:
    """The same words whether it never was, is another's, or is not for this key."""
    return Rejected(
        "nothing_to_void",
        pointer,
        f"No event {correction.target!a} of this source was accepted for this key. Correct the id, "
        "or send this again after that event was accepted.",
        retryable=True,
    )


def _needless(correction: Correction, target: Standing) -> str | None:
    """A void of what counts no more, with nothing in its place, has what it asks for."""
    if correction.event is not None or target.occurred_at is None:
        return None
    if target.taken and not target.taken.is_amendment:
        return (
            f"{correction.target!a} was voided at {_said(target.taken.at)} by {target.taken.id!a}; "
            "nothing more is to be done, and this id was not taken."
        )
    if target.reverted is not None and not target.taken:
        return (
            f"{correction.target!a} was in backfill {target.reverted}, which was reverted; nothing "
            "more is to be done, and this id was not taken."
        )
    return None


def _too_late(correction: Correction, target: Standing, pointer: str) -> Rejected:
    """Something else took it back before, which this correction did not know of."""
    taken = target.taken
    if taken and taken.is_amendment:
        verb = "amends" if correction.event else "voids"
        said = f"was amended at {_said(taken.at)} by {taken.id!a}, which counts in its place"
        do = f"Name that one: {verb} {taken.id!a}"
    else:
        by = f"voided by {taken.id!a}" if taken else f"reverted with backfill {target.reverted}"
        said, do = f"was {by}, for good", "Send the usage as an event with a new id, without amends"
    return Rejected("already_voided", pointer, f"{correction.target!a} {said}. {do}.")


def write(
    connection: Connection[Any],
    organization_id: int,
    api_key_id: int,
    judge: Judge,
    accepted: Mapping[int, Correction],
) -> None:
    """Write down what the accepted corrections, by their place in the request, took back."""
    rows = []
    for ordinal, correction in sorted(accepted.items()):
        target = judge.found.targets[ordinal]
        moments = [target.occurred_at, correction.event and correction.event.occurred_at]
        rows.append({
            "organization_id": organization_id,
            "target_batch_id": target.place[0],
            "target_received_at": target.received_at,
            "target_ordinal": target.place[1],
            "batch_id": judge.batch_id,
            "received_at": judge.received_at,
            "ordinal": ordinal,
            "is_amendment": correction.event is not None,
            "reaches_back_to": min(filter(None, moments)),
            "api_key_id": api_key_id,
            "reason": correction.reason,
        })  # fmt: skip
    with connection.cursor() as cursor:
        cursor.executemany(WRITE, rows)


def differs(correction: Correction | None, stored: Standing, target: Place | None) -> str | None:
    """What of a correction is not as it is stored; None where nothing is.

    `target` is where that which the sent one names is stored.
    """
    if correction is None:
        return None if stored.target is None else _kind(stored)
    if stored.target is None:
        return "an event"
    if (correction.event is None) != (stored.occurred_at is None):
        return _kind(stored)
    if target != stored.target:
        return "a correction of another event"
    return None if correction.reason == stored.reason else "a correction with another reason"


def _kind(stored: Standing) -> str:
    return "a void" if stored.occurred_at is None else "an amendment"


def fate(stored: Standing) -> str | None:
    """What has become of a stored event since, where that is not what its sender expects."""
    if stored.taken is None:
        return None
    if stored.taken.is_amendment:
        return (
            f"It was amended at {_said(stored.taken.at)} by {stored.taken.id!a}, which counts in "
            "its place."
        )
    return (
        f"It was voided at {_said(stored.taken.at)} by {stored.taken.id!a} and counts no more; if "
        "it shall, send it with a new id."
    )


def reverted(stored: Standing, pointer: str) -> Rejected | None:
    """The refusal of what was in a backfill that was reverted: nobody shall believe it counts."""
    if stored.reverted is None:
        return None
    return Rejected(
        "event_reverted",
        pointer,
        f"An event with this source and id was in backfill {stored.reverted}, which was reverted: "
        "it counts nowhere, and its id is spent. Send this one with a new id if it shall count.",
    )


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


def known_items(items: Sequence[UsageEvent | Correction]) -> list[Identity]:
    """The identities to look up for a batch: its own, and those that its corrections name."""
    own = [(item.source, item.id) for item in items]
    named = [(item.source, item.target) for item in items if isinstance(item, Correction)]
    return own + named
