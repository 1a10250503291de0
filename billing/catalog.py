"""Tariffs and their versions: published, continued, corrected, looked up.

A version is never edited. `add_version` continues a tariff from an instant nobody was billed past;
`correct` replaces what was published, also for periods that are billed: their difference stands on
each organization's next invoice. Either takes over the rest of the version in force at its start;
versions announced for later stand. Prices that jump take a second person (`billing.proposals`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from django.conf import settings
from django.db import transaction
from django.db.models import Max, Q

from accounts import prepared
from accounts.prepared import Columns
from billing import carrying, telling, timeline
from billing.models import Invoice, NegotiatedTerms, Tariff, TariffVersion
from billing.presets import PRESETS, STANDARD
from billing.rating.changes import Change, changes
from billing.rating.jumps import Jump, jumps
from billing.rating.negotiated import merged, parse_agreement
from billing.rating.period import Period, quarter_hour
from billing.rating.rate import PricedTerms
from billing.rating.tariff import TariffInvalid, Terms, parse

NO_VERSION = "@none"  # what a tariff goes by on lines of a time it had no prices in
FOREVER = datetime.max.replace(tzinfo=UTC)
CORRECTION_AGE_MAX = timedelta(days=366)  # a year and a day: beyond that, agree on it in writing


class TariffRefused(ValueError):
    """The tariff stays as it is; the message says why and what to do instead."""


class ApprovalNeeded(TariffRefused):
    """Prices jump too far to be published by one person alone."""

    def __init__(self, found: Sequence[Jump]) -> None:
        first, more = found[0].sentence, len(found) - 1
        others = f" And {more} more." if more else ""
        super().__init__(f"{first}{others} Propose it: a second person has to approve it.")
        self.jumps = found


@dataclass(frozen=True, slots=True)
class Preview:
    """What a document would change from an instant on, and what of it takes a second person."""

    changes: list[Change]
    jumps: list[Jump]
    learning: telling.Plan  # what readings have to tell apart for it


@transaction.atomic
def create_tariff(
    code: str,
    name: str,
    currency: str,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    *,
    description: str = "",
    source: str = "",
) -> Tariff:
    """Publish a tariff with its first version. TariffInvalid points at what is wrong in it."""
    _check(document, currency, valid_from)
    if Tariff.objects.filter(code=code).exists():
        raise TariffRefused(f"There is a tariff {code} already; add a version to it.")
    tariff = Tariff.objects.create(
        code=code, name=name, currency=currency, description=description, created_at=now
    )
    _publish(tariff, document, valid_from, None, now, source)
    return tariff


def add_version(
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    *,
    source: str = "",
) -> TariffVersion:
    """Continue a tariff with new terms from an instant that no issued invoice reaches past."""
    return _publish_alone(_continue, tariff, document, valid_from, now, source)


def correct(
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    *,
    source: str = "",
) -> TariffVersion:
    """Replace what was published from an instant on. Billed periods are billed the difference."""
    return _publish_alone(_correct, tariff, document, valid_from, now, source)


@transaction.atomic
def publish_approved(
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    *,
    correcting: bool,
    source: str = "",
) -> TariffVersion:
    """Publish what two people have agreed on, however far its prices jump (`billing.proposals`)."""
    step = _correct if correcting else _continue
    return step(tariff, document, valid_from, now, source)


def preview(tariff: Tariff, document: Mapping[str, object], valid_from: datetime) -> Preview:
    """What a document would change in the version in force at its start; publishes nothing.

    TariffInvalid and TariffRefused as when it is published.
    """
    terms = _check(document, tariff.currency, valid_from)
    on_it = telling.subscribers(tariff, Period(valid_from, FOREVER))
    learning = telling.plan([terms], on_it)
    before = version_at(tariff, valid_from)
    if before is None:
        whole = changes({"currency": tariff.currency}, terms.as_document())
        return Preview(whole, [], learning)
    old = terms_of(before)
    found = jumps(old, terms, settings.PRICE_JUMP_FACTOR)
    return Preview(changes(old.as_document(), terms.as_document()), found, learning)


def changed_by(version: TariffVersion) -> list[Change]:
    """What a version changed in the one that was in force before its start when it came."""
    before = timeline.before(version.tariff.versions.all(), version)
    old = terms_of(before).as_document() if before else {"currency": version.tariff.currency}
    return changes(old, terms_of(version).as_document())


def terms_in(tariff: Tariff, period: Period) -> list[PricedTerms]:
    """The terms in force during a period, stretch by stretch, tiling it.

    Where no version is valid the stretch has terms without prices: its usage is unpriced.
    """
    (stretches,) = terms_in_each([(tariff, period)])
    return stretches


VERSION = Columns(TariffVersion, "version", without=["document", "source"])
VALID = f"""
    SELECT {VERSION.text} FROM billing_tariffversion version
    WHERE tariff_id = ANY(%s) AND withdrawn_at IS NULL ORDER BY valid_from
"""  # noqa: S608 - names of columns


def terms_in_each(wanted: Sequence[tuple[Tariff, Period]]) -> list[list[PricedTerms]]:
    """The terms of several periods, found in one statement."""
    valid: dict[int, list[TariffVersion]] = defaultdict(list)
    for row in prepared.rows(VALID, [list({tariff.pk for tariff, _ in wanted})]):
        version = VERSION.instance(row)
        valid[version.tariff_id].append(version)
    return [_tiled(tariff, period, valid[tariff.pk]) for tariff, period in wanted]


def is_unpriced(stretch: PricedTerms) -> bool:
    """Whether the tariff had no version in this stretch of a period."""
    return stretch.version.endswith(NO_VERSION)


def version_at(tariff: Tariff, moment: datetime) -> TariffVersion | None:
    """The version in force at an instant; None where the tariff has no prices."""
    return timeline.at(tariff.versions.all(), moment)


def terms_from(tariff: Tariff, moment: datetime) -> list[Terms]:
    """The terms that the tariff has at an instant or later."""
    versions = tariff.versions.filter(Q(valid_to=None) | Q(valid_to__gt=moment), withdrawn_at=None)
    return [terms_of(version) for version in versions]


def terms_of(version: TariffVersion) -> Terms:
    """A version's terms, parsed once: a published document never changes."""
    return _terms(_Published(version))


def ensure_presets(now: datetime) -> list[Tariff]:
    """Publish the first presets that are not there yet. Running it again changes nothing."""
    return [publish_preset(code, now) for code in STANDARD]


@transaction.atomic
def publish_preset(code: str, now: datetime) -> Tariff:
    """Publish one preset, unless its tariff has a version already. KeyError for another code."""
    preset = PRESETS[code]
    tariff, _ = Tariff.objects.get_or_create(
        code=code,
        defaults={
            "name": preset.name,
            "currency": preset.currency,
            "description": preset.description,
            "offered": code in STANDARD,
        },
    )
    _lock(tariff)
    if not tariff.versions.exists():
        for published in preset.versions:
            _publish(
                tariff,
                published.document,
                published.valid_from,
                published.valid_to,
                now,
                published.source,
            )
    return tariff


class _Published:
    """A version as a cache key: equal by its identity, fetching its document when first parsed."""

    def __init__(self, version: TariffVersion) -> None:
        self.version = version
        self._key = (version.pk, version.tariff_id, version.number, version.known_at)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Published) and self._key == other._key


@lru_cache(maxsize=1_024)
def _terms(published: _Published) -> Terms:
    return parse(published.version.document)


def _tiled(tariff: Tariff, period: Period, valid: Sequence[TariffVersion]) -> list[PricedTerms]:
    stretches: list[PricedTerms] = []
    reached = period.start
    for version in valid:
        start = max(version.valid_from, period.start)
        end = min(version.valid_to or period.end, period.end)
        if end <= start:
            continue
        if start > reached:
            stretches.append(_unpriced(tariff, Period(reached, start)))
        name = f"{tariff.code}@{version.number}"
        stretches.append(PricedTerms(name, Period(start, end), terms_of(version)))
        reached = end
    if reached < period.end:
        stretches.append(_unpriced(tariff, Period(reached, period.end)))
    return stretches


def _check(document: Mapping[str, object], currency: str, valid_from: datetime) -> Terms:
    terms = parse(document)
    if terms.currency != currency:
        raise TariffRefused(
            f"The document is in {terms.currency} and the tariff in {currency}; "
            "make a tariff for each currency."
        )
    refuse_what_is_not_carried(terms)
    if quarter_hour(valid_from) != valid_from:
        raise TariffRefused("A version must start on a quarter-hour: readings are no finer.")
    return terms


def refuse_what_is_not_carried(terms: Terms) -> None:
    """Raise TariffRefused for terms that ask for more than readings and invoices carry."""
    refusals = carrying.refusals(terms)
    if no_room := telling.no_room_for(terms.boundaries):
        refusals.append(no_room)
    if refusals:
        raise TariffRefused(" ".join(refusals))


def _publish_alone(
    step: Callable[..., TariffVersion],
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    source: str,
) -> TariffVersion:
    with transaction.atomic():
        _lock(tariff)
        found = preview(tariff, document, valid_from).jumps
        if found:
            raise ApprovalNeeded(found)
        return step(tariff, document, valid_from, now, source)


def _continue(
    tariff: Tariff, document: Mapping[str, object], valid_from: datetime, now: datetime, source: str
) -> TariffVersion:
    terms = _check(document, tariff.currency, valid_from)
    _lock(tariff)
    billed_until = _billed_until(tariff)
    if billed_until is not None and valid_from < billed_until:
        raise TariffRefused(
            f"{tariff.code} is billed until {billed_until.isoformat()}; choose that instant or a "
            "later one, or correct the tariff, which bills the difference."
        )
    return _take_over(tariff, terms, document, valid_from, now, source)


def _correct(
    tariff: Tariff, document: Mapping[str, object], valid_from: datetime, now: datetime, source: str
) -> TariffVersion:
    terms = _check(document, tariff.currency, valid_from)
    if valid_from < now - CORRECTION_AGE_MAX:
        raise TariffRefused(f"A correction reaches back {CORRECTION_AGE_MAX.days} days at most.")
    _lock(tariff)
    return _take_over(tariff, terms, document, valid_from, now, source)


def _lock(tariff: Tariff) -> None:
    """Two versions added at once would both close the same one: the tariff's row lines them up."""
    Tariff.objects.select_for_update(no_key=True).get(pk=tariff.pk)


def _billed_until(tariff: Tariff) -> datetime | None:
    billed = Invoice.objects.filter(subscription__tariff=tariff, status=Invoice.Status.ISSUED)
    until: datetime | None = billed.aggregate(until=Max("period_end"))["until"]
    return until


def _take_over(
    tariff: Tariff,
    terms: Terms,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    source: str,
) -> TariffVersion:
    until = timeline.take_over(tariff.versions.all(), valid_from, now)
    _refuse_what_agreements_do_not_fit(tariff, terms, Period(valid_from, until or FOREVER))
    return _publish(tariff, document, valid_from, until, now, source)


def _refuse_what_agreements_do_not_fit(tariff: Tariff, terms: Terms, period: Period) -> None:
    """What was negotiated rests on the tariff: on its calendar, its codes, its decimals."""
    affected = NegotiatedTerms.objects.filter(
        Q(valid_to=None) | Q(valid_to__gt=period.start),
        subscription__tariff=tariff,
        withdrawn_at=None,
        valid_from__lt=period.end,
    )
    for agreed in affected.select_related("subscription__organization", "subscription__tariff"):
        try:
            refuse_what_is_not_carried(merged(terms, parse_agreement(agreed.document)))
        except TariffInvalid as refused:
            raise TariffRefused(
                f"What {agreed.subscription.organization} negotiated (no. {agreed.number}) does "
                f"not fit these terms: {refused.pointer} {refused.detail}. Change that first."
            ) from refused


def _publish(
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    valid_to: datetime | None,
    now: datetime,
    source: str,
) -> TariffVersion:
    last = tariff.versions.aggregate(last=Max("number"))["last"] or 0
    version = TariffVersion.objects.create(
        tariff=tariff,
        number=last + 1,
        valid_from=valid_from,
        valid_to=valid_to,
        known_at=now,
        document=document,
        source=source,
    )
    telling.ask(
        [terms_of(version)],
        telling.subscribers(tariff, Period(valid_from, valid_to or FOREVER)),
        reason=f"{tariff.code}@{version.number}",
    )
    return version


def _unpriced(tariff: Tariff, period: Period) -> PricedTerms:
    terms = Terms(currency=tariff.currency, calendar=None, allowances=(), components=())
    return PricedTerms(f"{tariff.code}{NO_VERSION}", period, terms)
