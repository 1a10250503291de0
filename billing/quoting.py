"""What one request, or a period's usage, would cost: asked with values, answered with a bill.

Nothing is stored and no reading is looked at. `docs/reference/rating-json.md` describes what may
be asked and what is answered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from accounts import organizations
from accounts.models import Organization
from billing import catalog, negotiations, offers, subscriptions
from billing.rating.bill import Bill, bill, bill_request
from billing.rating.charge import Facts, read_facts
from billing.rating.document import Field, TariffInvalid
from billing.rating.event import QUANTITY_MAX, Event, read_event
from billing.rating.gathering import Outcome, gathered
from billing.rating.period import QUARTER, Period, day_of, quarter_hour
from billing.rating.statement import Counted
from billing.rating.tariff import Terms, parse
from billing.rating.usage import PricedTerms, Usage

EVENTS_MAX = 10_000
PERIOD_MAX = timedelta(days=93)
ROWS_MAX = 10_000
# How many names may be compared while prices are looked for: some seconds of one processor.
COMPARED_MAX = 5_000_000
OWN_VERSION = "tariff"  # what a document in the request goes by on the lines
_CODE = re.compile(r"[-a-zA-Z0-9_]{1,63}")
_TEXT = re.compile(r"\S(?:.{0,126}\S)?")
_REGISTER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_ZONE = re.compile(r"[A-Za-z0-9_+/-]{1,64}")


@dataclass(frozen=True, slots=True)
class Quoted:
    """A bill that nobody is sent: of which time, and of how many events if it was of events."""

    bill: Bill
    period: Period
    counted: Counted | None = None


def quote(organization: Organization, body: object, now: datetime) -> Quoted:
    """Price one request: its own cost, before allowances and charges, at the first step of
    prices that change with volume. TariffInvalid points into the body."""
    fields = Field(body).members(
        {"model", "usage"},
        {"occurred_at", "tariff", "region", "service_class", "thinking", "attributes"},
    )
    event = _request(fields, now)
    if not _within_reach(event.occurred_at):
        raise fields["occurred_at"].refuse("a time between 1970 and 2200", "correct it")
    start = quarter_hour(event.occurred_at)
    period = Period(start, start + QUARTER)
    stretches = _stretches(organization, fields, period)
    facts = Facts(ZoneInfo(organization.zone))
    return Quoted(bill_request(event, stretches, facts), period, Counted(events=1))


def simulate(organization: Organization, body: object) -> Quoted:
    """Price a period's events, or its sums, as its invoice would. TariffInvalid points into the
    body; ValueError for what no single field is to blame for."""
    fields = Field(body).members(
        {"tariff", "from", "to"}, {"zone", "events", "usage", "facts", "tax_percent"}
    )
    zone = _zone(fields, organization)
    period = _period(fields, zone)
    stretches = _stretches(organization, fields, period)
    tax = fields["tax_percent"].price() if "tax_percent" in fields else Decimal(0)
    if ("events" in fields) == ("usage" in fields):
        raise TariffInvalid("/events", "or usage must be there, and not both; leave one out")
    if "events" in fields:
        return _of_events(fields, period, stretches, Facts(zone), tax)
    usage = [_usage(item, period) for item in fields["usage"].items(most=ROWS_MAX)]
    _refuse_too_much(len({item.what for item in usage}), stretches)
    return Quoted(bill(usage, stretches, _facts(fields, Facts(zone)), tax_percent=tax), period)


def _of_events(
    fields: Mapping[str, Field],
    period: Period,
    stretches: Sequence[PricedTerms],
    facts: Facts,
    tax_percent: Decimal,
) -> Quoted:
    items = fields["events"].items(most=EVENTS_MAX)
    _refuse_too_much(len(items), stretches)
    found = gathered((read_event(item) for item in items), period, stretches)
    facts = _facts(fields, replace(facts, load=found.load))
    counts = found.counts
    counted = Counted(counts[Outcome.TAKEN], counts[Outcome.DUPLICATE], counts[Outcome.CONFLICT])
    return Quoted(found.bill(facts, tax_percent=tax_percent), period, counted)


def _request(fields: Mapping[str, Field], now: datetime) -> Event:
    """Read the request as the event that would report it."""
    reported = {
        name: field.value
        for name, field in fields.items()
        if name in ("model", "usage") or (name != "tariff" and field.value is not None)
    }
    return read_event(Field({"occurred_at": now.isoformat(), **reported, "id": "quote"}))


def _stretches(
    organization: Organization, fields: Mapping[str, Field], period: Period
) -> list[PricedTerms]:
    """Return the terms asked for: a document, a tariff by its code, or those in force."""
    source = fields.get("tariff")
    if source is None:
        subscription = subscriptions.current(organization, period.start)
        if subscription is None:
            raise TariffInvalid("/tariff", "is missing, and you are on none then; name one")
        return negotiations.terms_in_each([(subscription, period)])[0]
    if isinstance(source.value, Mapping):
        return [PricedTerms(OWN_VERSION, period, _terms(source))]
    tariff = offers.find(organization, source.text(_CODE, "a tariff's code, or a document"))
    if tariff is None:
        raise TariffInvalid("/tariff", "is no tariff offered to you; name one that is")
    return catalog.terms_in(tariff, period)


def _terms(source: Field) -> Terms:
    """Parse a document, and point at its fields from where the request begins."""
    assert isinstance(source.value, Mapping)
    try:
        return parse(source.value)
    except TariffInvalid as refused:
        raise TariffInvalid(source.pointer + refused.pointer, refused.detail) from None


def _refuse_too_much(whats: int, stretches: Sequence[PricedTerms]) -> None:
    names = sum(
        len(models or ())
        for one in stretches
        for models in (
            *(part.models for part in one.terms.components),
            *(part.scope.models for part in one.terms.modifiers),
            *(part.models for part in one.terms.allowances),
        )
    )
    if whats * names > COMPARED_MAX:
        raise ValueError(
            f"{whats:,} kinds of usage against {names:,} names of models is more than is priced "
            "in one request; send less usage, or a shorter tariff"
        )


def _zone(fields: Mapping[str, Field], organization: Organization) -> ZoneInfo:
    if "zone" not in fields:
        return ZoneInfo(organization.zone)
    name = fields["zone"].text(_ZONE, "an IANA time zone")
    if name not in organizations.zones():
        raise fields["zone"].refuse("an IANA time zone", "name one such as Europe/Berlin")
    return ZoneInfo(name)


def _period(fields: Mapping[str, Field], zone: ZoneInfo) -> Period:
    start, end = (_edge(fields[name], zone) for name in ("from", "to"))
    if not start < end:
        raise TariffInvalid("/to", "must lie after /from; it is not part of the period")
    if end - start > PERIOD_MAX:
        raise TariffInvalid("/to", f"must lie at most {PERIOD_MAX.days} days after /from")
    return Period(start, end)


def _edge(source: Field, zone: ZoneInfo) -> datetime:
    """Read an instant, or the midnight at which a local date begins."""
    is_date = isinstance(source.value, str) and len(source.value) == len("2026-10-01")
    try:
        edge = day_of(zone, source.day()).start if is_date else source.moment()
    except OverflowError:
        edge = None
    if edge is None or not _within_reach(edge):
        raise source.refuse("a time between 1970 and 2200", "correct it")
    if quarter_hour(edge) != edge:
        raise source.refuse("on a quarter-hour", "readings are no finer")
    return edge


def _within_reach(moment: datetime) -> bool:
    return 1970 <= moment.year <= 2200


def _usage(source: Field, period: Period) -> Usage:
    """Read one sum of usage: of a quarter-hour, or of the whole period if it names none."""
    fields = source.members(
        {"model", "register", "quantity"},
        {"starts_at", "region", "service_class", "input_band", "thinking", "attributes"},
    )
    start = fields["starts_at"].instant() if "starts_at" in fields else period.start
    if not period.start <= start < period.end:
        raise fields["starts_at"].refuse("within the period", "correct it, or the period")
    return Usage(
        start=start,
        end=start + QUARTER,
        model=fields["model"].text(_TEXT, "a text of 1 to 128 characters"),
        register=fields["register"].text(_REGISTER, "a register such as input"),
        region=_name(fields.get("region")),
        service_class=_name(fields.get("service_class")),
        quantity=fields["quantity"].whole(0, QUANTITY_MAX),
        input_band=fields["input_band"].whole(0, QUANTITY_MAX) if "input_band" in fields else 0,
        thinking=fields["thinking"].flag() if "thinking" in fields else False,
        attributes=fields["attributes"].texts(_ATTRIBUTE, "an attribute", most=50)
        if "attributes" in fields
        else (),
    )


def _name(source: Field | None) -> str:
    return "" if source is None else source.text(_TEXT, "a text of 1 to 128 characters")


def _facts(fields: Mapping[str, Field], facts: Facts) -> Facts:
    return read_facts(fields["facts"], facts) if "facts" in fields else facts
