"""One event followed to the money: its reading, its rated lines, its invoice lines.

A reading has no memory of single events, and a line none of single readings. So what can be said of
an event is said exactly: how much of which sum it is, which lines that sum went onto, and, where it
all went onto one line, what the event's own part of that line's amount is. Where a sum is shared
between lines (at the edge of an allowance or a step), nobody can say which of its events were free:
then the parts of the sum are told, and the event's amount is the average of the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext

from accounts.models import Organization
from billing import standing
from billing.fates import Fate, Reason, Verdict, first, of_event, of_line
from billing.models import InvoiceLine
from billing.rating.line import ALLOWANCE, UNPRICED, LineKey
from billing.rating.money import EXACT
from billing.rating.period import Period
from billing.rating.rate import Segment, Share
from billing.rating.scope import REQUESTS, What
from billing.standing import Standing
from metering import readings
from metering.readings import Corrections, EventPlace, FoundEvent

AVERAGE_DIGITS = 12  # decimals of an average; an exact amount has all of its own


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a sum of usage, on the line it went onto. Amounts are in the tariff's currency."""

    fate: Fate
    key: LineKey
    quantity: int
    lines: Sequence[InvoiceLine]  # on issued documents, oldest first; none while it is on none
    line_quantity: int  # what these carry together

    @property
    def is_free(self) -> bool:
        return self.fate in (Fate.FREE, Fate.UNPRICED)

    @property
    def words(self) -> str:
        """What prices it, as a person reads it."""
        if self.key.component == UNPRICED:
            return "no price covers it"
        if self.key.component.startswith(ALLOWANCE):
            return f"free tokens ({self.key.component.removeprefix(ALLOWANCE)})"
        words = [self.key.component]
        if self.key.bucket:
            words.append(self.key.bucket.replace("_", "-"))
        if self.key.step:
            words.append(f"step {self.key.step + 1}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class RegisterTrail:
    """One register of the event, from its quantity to the lines."""

    register: str
    quantity: int
    in_reading: int | None  # of its rating key in its quarter-hour; None while it is in none
    in_sum: int  # of everything that is priced alike in the stretch of time
    fate: Fate | None  # None while the period is not billed
    parts: Sequence[Part]
    amount: Decimal | None  # what the event comes to; None where it cannot be said
    is_exact: bool  # or else the average of the sum

    @property
    def label(self) -> str:
        """The register's name for people."""
        return readings.register_label(self.register)


@dataclass(frozen=True, slots=True)
class Trail:
    """The whole way of one event; `period` and all after it is None where nobody subscribed."""

    event: FoundEvent
    verdict: Verdict
    corrections: Corrections | None  # None: nothing took it back, and it takes nothing back
    registers: Sequence[RegisterTrail]
    period: Period | None = None
    segment: Segment | None = None  # the stretch of time without a change of prices
    currency: str = ""

    @property
    def lines(self) -> list[InvoiceLine]:
        """The invoice lines it is on, each once."""
        found: dict[int, InvoiceLine] = {}
        for register in self.registers:
            for part in register.parts:
                found |= {line.pk: line for line in part.lines}
        return list(found.values())

    @property
    def amount(self) -> Decimal | None:
        """What it comes to altogether, before rounding; None where a part of it cannot be said."""
        amounts = [one.amount for one in self.registers]
        known = [amount for amount in amounts if amount is not None]
        with localcontext(EXACT):
            return sum(known, Decimal(0)) if amounts and len(known) == len(amounts) else None

    @property
    def is_exact(self) -> bool:
        return all(one.is_exact for one in self.registers)


def follow(organization: Organization, event: FoundEvent, now: datetime) -> Trail:
    """Follow one event as far as it has come."""
    stands = standing.at(organization, event.quarter_hour, now)
    reading = readings.reading_of(organization.pk, event)
    corrections = readings.voids_of(organization.pk, [event.place]).get(event.place)
    verdict = verdict_of(event, stands, corrections)
    if stands is None:
        return Trail(event, verdict, corrections, [
            RegisterTrail(register, quantity, reading.get(register), 0, None, [], None, False)
            for register, quantity in event.usage.items()
        ])  # fmt: skip
    segment = stands.segment_at(event.quarter_hour)
    is_in = event.batch_state == "applied"
    return Trail(
        event=event,
        verdict=verdict,
        corrections=corrections,
        registers=[
            _register(
                stands, segment, what, quantity, reading.get(what.register) if is_in else None
            )
            for what, quantity in _used(event, stands, segment)
        ],
        period=stands.period,
        segment=segment,
        currency=stands.subscription.tariff.currency,
    )


class Teller:
    """Tells the fates of an organization's events as of one moment; each billing period that they
    happened in is rated once, however often it is asked."""

    def __init__(self, organization: Organization, now: datetime) -> None:
        self.organization, self.now = organization, now
        self._stood: list[Standing] = []
        self._unsubscribed: set[datetime] = set()  # quarter-hours

    def tell(self, events: Sequence[FoundEvent]) -> list[tuple[FoundEvent, Verdict]]:
        """Each event with its fate, in the same order."""
        corrections = readings.voids_of(self.organization.pk, [event.place for event in events])
        return [
            (event, verdict_of(event, self._at(event.quarter_hour), corrections.get(event.place)))
            for event in events
        ]

    def _at(self, moment: datetime) -> Standing | None:
        if moment in self._unsubscribed:
            return None
        stands = next((one for one in self._stood if moment in one.period), None)
        if stands is None:
            stands = standing.at(self.organization, moment, self.now)
            if stands is None:
                self._unsubscribed.add(moment)
            else:
                self._stood.append(stands)
        return stands


def verdicts(
    organization: Organization, events: Iterable[FoundEvent], now: datetime
) -> dict[EventPlace, Verdict]:
    """The fates of some events, by their places."""
    told = Teller(organization, now).tell(list(events))
    return {event.place: verdict for event, verdict in told}


def verdict_of(
    event: FoundEvent, stands: Standing | None, corrections: Corrections | None = None
) -> Verdict:
    """The fate of one event in a period that stands like this; None: nobody subscribed."""
    taken_back = _taken_back(corrections)
    if stands is None:
        return of_event(event.batch_state, taken_back=taken_back, unbilled=Reason.NO_SUBSCRIPTION)
    segment = stands.segment_at(event.quarter_hour)
    used = [what for what, quantity in _used(event, stands, segment) if quantity]
    return of_event(
        event.batch_state,
        taken_back=taken_back,
        unbilled=stands.unbilled,
        late=stands.was_late(event.applied_at) and not stands.is_settled(segment, used),
        registers=[first(stands.fates_of(stands.shares_of(segment, what), what)) for what in used],
    )


def _taken_back(corrections: Corrections | None) -> Reason | None:
    """What took the event back, once the readings know of it; until then it counts."""
    taken = corrections.taken_back if corrections else None
    if taken is None or taken.by is None or not taken.is_applied:
        return None
    return Reason.AMENDED if taken.is_amendment else Reason.VOIDED


def _used(event: FoundEvent, stands: Standing, segment: Segment) -> list[tuple[What, int]]:
    """What it used as rating sees it; the request itself counts where something prices it."""
    used = [
        (What(event.model, register, event.region or "", event.service_class or "",
              event.input_band, event.thinking, event.attributes), quantity)
        for register, quantity in [*event.usage.items(), (REQUESTS, 1)]
    ]  # fmt: skip
    *registers, (request, one) = used
    return [*registers, (request, one)] if stands.shares_of(segment, request) else registers


def _register(
    stands: Standing, segment: Segment, what: What, quantity: int, in_reading: int | None
) -> RegisterTrail:
    shares = stands.shares_of(segment, what)
    if stands.unbilled is None:
        shares = stands.on_documents(shares) or shares
    amount, is_exact = _amount(quantity, shares)
    is_decided = stands.unbilled is None and quantity
    fate = first(stands.fates_of(shares, what)) if is_decided else None
    return RegisterTrail(
        register=what.register,
        quantity=quantity,
        in_reading=in_reading,
        in_sum=sum(share.quantity for share in shares),
        fate=fate,
        parts=[_part(stands, share) for share in shares],
        amount=None if any(_in_packages(stands, share) for share in shares) else amount,
        is_exact=is_exact,
    )


def _part(stands: Standing, share: Share) -> Part:
    carried = stands.carried.get(share.key)
    return Part(
        fate=of_line(share.key, stands.carried),
        key=share.key,
        quantity=share.quantity,
        lines=[line for line in carried.lines if line.quantity] if carried else [],
        line_quantity=carried.quantity if carried else 0,
    )


def _in_packages(stands: Standing, share: Share) -> bool:
    return not share.key.unit_price and of_line(share.key, stands.carried) is Fate.BILLED


def _amount(quantity: int, shares: Sequence[Share]) -> tuple[Decimal | None, bool]:
    """What a quantity of a sum comes to, and whether that is exact or the average of the sum."""
    if not quantity:
        return Decimal(0), True
    if not shares:
        return None, False
    with localcontext(EXACT):
        if len({(share.key.unit_price, share.key.per) for share in shares}) == 1:
            return shares[0].key.unit_price * quantity / shares[0].key.per, True
        whole = sum(
            (share.key.unit_price * share.quantity / share.key.per for share in shares), Decimal(0)
        )
    in_sum = sum(share.quantity for share in shares)
    return round(whole * quantity / in_sum, AVERAGE_DIGITS), False
