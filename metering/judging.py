"""Which event each correction of a batch takes back, and whether it still can. Values in and out.

What is stored is looked up by `metering.voids`. Nothing here says more to a key of one project than
that there is nothing, where something is another project's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, Protocol

from metering.usage.correction import CORRECTION_AGE_MAX, Correction, too_old
from metering.usage.event import AGE_MAX, Rejected, UsageEvent

Identity = tuple[str, str]  # source and id
Place = tuple[int, int]  # batch and ordinal


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
    project_id: int | None  # of a void: that of the event it took back
    reverted: int | None = None  # the backfill that it was in, if that was reverted
    target: Place | None = None  # what it took back itself
    reason: str | None = None
    taken: Taking | None = None


class Said(NamedTuple):
    """What became of an item where its content alone does not tell: stored before, or not so."""

    same: bool
    detail: str


Settled = Said | Rejected


class Item(Protocol):
    """An event or a correction on its way in: metering.store.Incoming."""

    @property
    def ordinal(self) -> int: ...
    @property
    def event(self) -> UsageEvent | Correction: ...
    @property
    def project_id(self) -> int: ...
    @property
    def correction(self) -> Correction | None: ...


@dataclass(slots=True)
class Judge:
    """Judges one batch: its events and corrections in the order in which they were sent.

    `own_project_id` is set for a key of one project, which sees nothing beyond it.
    """

    batch_id: int
    received_at: datetime
    own_project_id: int | None
    known: Mapping[Identity, Place]  # of everything in the batch, and everything it names
    standing: dict[Place, Standing]
    here: dict[Identity, Place] = field(default_factory=dict)  # what came earlier in the batch
    settled: dict[int, Settled] = field(default_factory=dict)  # by place in the request
    targets: dict[int, Standing] = field(default_factory=dict)  # of the others

    def judge(self, items: Iterable[Item]) -> None:
        """Settle what takes nothing back, and find what the other corrections take back."""
        for item in items:
            identity = (item.event.source, item.event.id)
            if identity in self.known or identity in self.here:
                continue  # a repetition: told when it is compared with what is stored
            if item.correction is None or self._takes(item.ordinal, item.correction):
                self._see(identity, item)

    def place_of(self, correction: Correction | None) -> Place | None:
        """Where the event that a correction names is stored."""
        return self.known.get((correction.source, correction.target)) if correction else None

    def _see(self, identity: Identity, item: Item) -> None:
        """Later corrections of the batch may take it back."""
        place = (self.batch_id, item.ordinal)
        occurred_at = item.event.occurred_at if isinstance(item.event, UsageEvent) else None
        self.here[identity] = place
        self.standing[place] = Standing(place, self.received_at, occurred_at, item.project_id)

    def _takes(self, ordinal: int, correction: Correction) -> bool:
        """Whether a correction takes something back; if not, why is written down."""
        target = self._target(correction)
        try:
            if target is None:
                raise _nothing(correction)
            if needless := _needless(correction, target):
                self.settled[ordinal] = Said(same=True, detail=needless)
                return False
            self._may(correction, target)
        except Rejected as rejected:
            self.settled[ordinal] = rejected
            return False
        self.targets[ordinal] = target
        taking = Taking(correction.id, self.received_at, correction.event is not None)
        self.standing[target.place] = replace(target, taken=taking)
        return True

    def _target(self, correction: Correction) -> Standing | None:
        identity = (correction.source, correction.target)
        place = self.known.get(identity) or self.here.get(identity)
        target = self.standing.get(place) if place else None
        if target is None or self.own_project_id in (None, target.project_id):
            return target
        return None

    def _may(self, correction: Correction, target: Standing) -> None:
        """Refuse what cannot be taken back, or not by this."""
        if target.occurred_at is None:
            raise Rejected(
                "void_is_final",
                _names(correction),
                f"{correction.target!a} is itself a void, and a void is final. If the usage counts "
                "after all, send it as an event with a new id.",
            )
        if target.taken or target.reverted is not None:
            raise _too_late(correction, target)
        if too_old(target.occurred_at, self.received_at):
            raise Rejected(
                "timestamp_too_old",
                _names(correction),
                f"{correction.target!a} happened at {_said(target.occurred_at)}, and usage is "
                f"corrected for {CORRECTION_AGE_MAX.days} days. Agree with the operator on a "
                "credit.",
            )
        event = correction.event
        if event and event.occurred_at < min(self.received_at - AGE_MAX, target.occurred_at):
            raise Rejected(
                "timestamp_too_old",
                "/occurred_at",
                f"occurred_at is more than {AGE_MAX.days} days ago, and before that of the event "
                f"it amends ({_said(target.occurred_at)}). Void that one, and send this one in a "
                "backfill.",
            )


def _names(correction: Correction) -> str:
    """The field that names what it takes back."""
    return "/voids" if correction.event is None else "/amends"


def _nothing(correction: Correction) -> Rejected:
    """The same words whether it never was, is another's, or is not for this key."""
    return Rejected(
        "nothing_to_void",
        _names(correction),
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


def _too_late(correction: Correction, target: Standing) -> Rejected:
    """Something else took it back before, which this correction did not know of."""
    taken = target.taken
    if taken and taken.is_amendment:
        said = f"was amended at {_said(taken.at)} by {taken.id!a}, which counts in its place"
        do = f"Name that one: {_names(correction)[1:]} {taken.id!a}"
    else:
        by = f"voided by {taken.id!a}" if taken else f"reverted with backfill {target.reverted}"
        said, do = f"was {by}, for good", "Send the usage as an event with a new id, without amends"
    return Rejected("already_voided", _names(correction), f"{correction.target!a} {said}. {do}.")


def compare(
    items: Iterable[Item],
    judge: Judge | None,
    known: Mapping[Identity, Place],
    touched: Mapping[Place, Standing],
    batch_id: int,
) -> tuple[dict[int, Settled], dict[int, str]]:
    """What became of items whose identity is stored, where their content alone does not tell.

    `known` is where every identity of the batch is stored by now, `touched` what was corrected
    there. Beside it a sentence for those that were taken back since; what became of another
    project's event is not for every key to read.
    """
    settled: dict[int, Settled] = dict(judge.settled) if judge else {}
    fates: dict[int, str] = {}
    first: dict[Identity, Item] = {}
    for item in items:
        if item.ordinal in settled:
            continue
        identity = (item.event.source, item.event.id)
        place = known[identity]
        twin = first.setdefault(identity, item)
        stored = touched.get(place)
        if place == (batch_id, item.ordinal):
            continue
        if stored and _is_elsewhere(stored, item, judge):
            settled[item.ordinal] = _hidden(item.correction, stored)
            continue
        if place[0] == batch_id:
            said: Settled | None = compared_here(item.correction, twin.correction, twin.ordinal)
        else:
            target = judge.place_of(item.correction) if judge else None
            said = compared(item.correction, stored, target)
        if said:
            settled[item.ordinal] = said
        elif stored and stored.project_id == item.project_id and (sentence := fate(stored)):
            fates[item.ordinal] = sentence
    return settled, fates


def _is_elsewhere(stored: Standing, item: Item, judge: Judge | None) -> bool:
    """Whether what is stored is of another project than whoever asks about it."""
    is_void = item.correction is not None and item.correction.event is None
    asking = judge.own_project_id if is_void and judge else item.project_id
    return None not in (asking, stored.project_id) and stored.project_id != asking


def _hidden(correction: Correction | None, stored: Standing) -> Said:
    """The words for an event of another project that nothing ever happened to."""
    if correction is not None:
        return Said(same=False, detail=conflict(_NO_CORRECTION, "and was there before"))
    return Said(
        same=False,
        detail=f"An event with this source and id was accepted at {_said(stored.received_at)} with "
        "other content: project. The first one stands. Send this one with a new id if it is "
        "another event.",
    )


_NO_CORRECTION = "an event that takes nothing back has this source and id"


def differs(correction: Correction | None, stored: Standing, target: Place | None) -> str | None:
    """What is stored under an identity, where a correction, or a plain event, is not what it was.

    `target` is where the event that the sent one names is stored.
    """
    if correction is None:
        return None if stored.target is None else f"{_kind(stored)} has this source and id"
    if stored.target is None:
        return _NO_CORRECTION
    if (correction.event is None) != (stored.occurred_at is None):
        return f"{_kind(stored)} has this source and id"
    if target != stored.target:
        return f"{_kind(stored)} of another event has this source and id"
    if correction.reason != stored.reason:
        return f"{_kind(stored)} with another reason has this source and id"
    return None


def _kind(stored: Standing) -> str:
    return "a void" if stored.occurred_at is None else "an amendment"


def compared(
    correction: Correction | None, stored: Standing | None, target: Place | None
) -> Settled | None:
    """What became of an item whose identity is stored, where its content alone does not tell.

    `stored` is told only where a correction stands or something was taken back; `target` is where
    the event that the correction names is stored.
    """
    if stored is None:
        if correction is None:
            return None
        return Said(same=False, detail=conflict(_NO_CORRECTION, "and was there before"))
    if stored.reverted is not None:
        return Rejected(
            "event_reverted",
            "",
            f"An event with this source and id was in backfill {stored.reverted}, which was "
            "reverted: it counts nowhere, and its id is spent. Send this one with a new id if it "
            "shall count.",
        )
    if said := differs(correction, stored, target):
        where = f"and was accepted at {_said(stored.received_at)}"
        return Said(same=False, detail=conflict(said, where))
    if stored.occurred_at is None:
        return Said(
            same=True,
            detail=f"The same void was accepted at {_said(stored.received_at)}; nothing was "
            "subtracted twice.",
        )
    return None


def compared_here(
    correction: Correction | None, twin: Correction | None, index: int
) -> Said | None:
    """The same for an item whose identity came earlier in its own batch."""
    if correction is None and twin is None:
        return None
    where = f"and stands at index {index} of this batch"
    if correction is None or twin is None or correction[:4] != twin[:4]:
        detail = conflict("other content has this source and id", where)
        return Said(same=False, detail=detail)
    if correction.event is None and twin.event is None:
        return Said(same=True, detail=f"The same void stands at index {index} of this batch.")
    return None


def conflict(said: str, where: str) -> str:
    """The sentence of a conflict that is not about the content of two events."""
    return (
        f"{said[0].upper()}{said[1:]} {where}. The first one stands. Send this one with a new id "
        "if it is another one."
    )


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


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
