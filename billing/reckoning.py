"""The fates of all events of a stretch of time, added up: none is missing and none counts twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from accounts.models import Organization
from billing import standing, subscriptions
from billing.fates import Fate, Reason, Verdict, first, of_event, of_register
from billing.models import Subscription
from billing.rating.period import Period
from billing.rating.scope import REQUESTS, What
from billing.rating.segments import as_priced
from billing.standing import Standing
from metering import readings
from metering.readings import Tally

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # the meter takes nothing from before, or after
END = datetime(2201, 1, 1, tzinfo=UTC)
AHEAD_MAX = timedelta(days=1)  # an event may happen a little after now


@dataclass(slots=True)
class Reckoning:
    """Events by their fate and its reason, and quantities by theirs: of a register that is shared
    between lines each line's part counts for itself."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    used: dict[Verdict, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def events(self) -> dict[Fate, int]:
        """How many events met each fate; every fate is named."""
        sums = dict.fromkeys(Fate, 0)
        for verdict, events in self.verdicts.items():
            sums[verdict.fate] += events
        return sums

    @property
    def quantities(self) -> dict[Fate, Counter[str]]:
        """How much of each register met each fate; every fate is named."""
        sums: dict[Fate, Counter[str]] = {fate: Counter() for fate in Fate}
        for verdict, used in self.used.items():
            sums[verdict.fate].update(used)
        return sums

    def total(self) -> Counter[str]:
        """Everything together, by register; events are counted as requests."""
        return sum(self.used.values(), Counter({REQUESTS: self.verdicts.total()}))

    def in_readings(self) -> Counter[str]:
        """What of it the readings hold: neither what is on its way nor what was taken back."""
        out = {Reason.NOT_APPLIED, Reason.FAILED, Reason.HELD}
        counted = Reckoning()
        for verdict, events in self.verdicts.items():
            if verdict.fate is not Fate.VOID and verdict.reason not in out:
                counted.verdicts[verdict] = events
        for verdict, used in self.used.items():
            if verdict.fate is not Fate.VOID and verdict.reason not in out:
                counted.used[verdict] = used
        return counted.total()

    def add(self, other: Reckoning) -> None:
        """Take over another stretch of time."""
        self.verdicts.update(other.verdicts)
        for verdict, used in other.used.items():
            self.used[verdict].update(used)


def of_period(
    subscription: Subscription, period: Period, now: datetime, *, events_max: int | None = None
) -> Reckoning:
    """The fates of the events of one billing period, within the caller's snapshot.

    Goes through those that were not counted before (`readings.tally_blocks`), at most `events_max`
    of them: else TooManyEvents.
    """
    stands = standing.of(subscription, period, now)
    tallies = readings.tally_blocks.counted(
        stretch_of(stands), seen_until=stands.seen_until, events_max=events_max
    )
    reckoning = Reckoning()
    on_documents: Counter[tuple[int, What]] = Counter()
    for tally in tallies:
        verdict, places = _verdict(stands, tally)
        reckoning.verdicts[verdict] += tally.events
        if places is None:
            reckoning.used[verdict].update(tally.quantities)
        else:
            on_documents.update(places)
    for (slice_, what), quantity in on_documents.items():
        for fate, part in _spread(stands, slice_, what, quantity):
            reckoning.used[of_register(fate)][what.register] += part
    return reckoning


def stretch_of(stands: Standing) -> readings.tally_blocks.Stretch:
    """What is to be counted for a billing period: its slices between changes of prices."""
    starts = tuple(segment.start for segment in stands.segments)
    return readings.tally_blocks.Stretch(
        stands.subscription.organization_id, starts, stands.period.end
    )


def of_organization(organization: Organization, now: datetime) -> Reckoning:
    """The fates of all its events, whenever they happened. Goes through all of them."""
    whole = Reckoning()
    for stretch in _tiling(organization, now):
        whole.add(stretch)
    return whole


def _tiling(organization: Organization, now: datetime) -> Iterator[Reckoning]:
    """Every billing period, and every gap in which nobody was subscribed."""
    reached = BEGINNING
    every = organization.subscriptions.select_related("organization", "tariff")
    for subscription in every.order_by("starts_at"):
        yield _of_gap(organization.pk, reached, subscription.starts_at)
        reached = subscription.starts_at
        until = min(now + AHEAD_MAX, subscription.ends_at or END)
        while reached < until:
            period = subscriptions.period_at(subscription, reached)
            yield of_period(subscription, period, now)
            reached = period.end
    yield _of_gap(organization.pk, reached, END)


def _of_gap(organization_id: int, start: datetime, end: datetime) -> Reckoning:
    reckoning = Reckoning()
    for tally in readings.tallies(organization_id, [start], end) if start < end else []:
        verdict = of_event(
            tally.kind.batch_state,
            taken_back=_taken_back(tally),
            unbilled=Reason.NO_SUBSCRIPTION,
        )
        reckoning.verdicts[verdict] += tally.events
        reckoning.used[verdict].update(tally.quantities)
    return reckoning


def _verdict(stands: Standing, tally: Tally) -> tuple[Verdict, dict[tuple[int, What], int] | None]:
    """The fate of events of a kind; and, where documents decided it, the usage they decided on."""
    kind = tally.kind
    segment = stands.segments[kind.slice]
    quantities = {REQUESTS: tally.events} | tally.quantities
    used = {_what(stands, tally, register): quantity for register, quantity in quantities.items()}
    registers = [
        first(stands.fates_of(shares, what))
        for what in used
        if (shares := stands.shares_of(segment, what)) or what.register != REQUESTS
    ]
    late = kind.applied_late and not stands.is_settled(segment, used)
    verdict = of_event(
        kind.batch_state,
        taken_back=_taken_back(tally),
        unbilled=stands.unbilled,
        late=late,
        registers=registers,
    )
    if verdict.fate is Fate.VOID or kind.batch_state != "applied" or stands.unbilled or late:
        return verdict, None
    return verdict, {
        (kind.slice, what): quantity for what, quantity in used.items() if what.register != REQUESTS
    }


def _taken_back(tally: Tally) -> Reason | None:
    return Reason(tally.kind.taken_back) if tally.kind.taken_back else None


def _what(stands: Standing, tally: Tally, register: str) -> What:
    """What was used, in the bands of the tariff: those are what was poured."""
    kind = tally.kind
    what = What(kind.model, register, kind.region, kind.service_class, kind.input_band,
                kind.thinking, kind.attributes)  # fmt: skip
    return as_priced(what, stands.sizes)


def _spread(stands: Standing, slice_: int, what: What, quantity: int) -> Iterator[tuple[Fate, int]]:
    """Fill the lines in the order they were poured; late usage, not billed yet, lies on top."""
    shares = stands.shares_of(stands.segments[slice_], what)
    fates: Sequence[Fate] = stands.fates_of(shares, what)
    sizes: Iterable[int] = [share.quantity for share in stands.on_documents(shares)] or [quantity]
    for fate, size in zip(fates, sizes, strict=True):
        yield fate, min(size, quantity)
        quantity -= min(size, quantity)
    if quantity:
        yield fates[-1], quantity
