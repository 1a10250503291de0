"""Tariffs and their versions: published, continued, corrected, looked up.

A version is never edited. `add_version` continues a tariff from an instant nobody was billed past;
`correct` replaces what was published, also for periods that are billed: their difference stands on
each organization's next invoice. Either takes over the rest of the version in force at its start;
versions announced for later stand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from django.db import transaction
from django.db.models import Max, Min, Q

from billing.models import Invoice, Tariff, TariffVersion
from billing.presets import PRESETS
from billing.rating.period import Period, quarter_hour
from billing.rating.rate import PricedTerms
from billing.rating.tariff import Terms, parse

# What of Terms.asks_for the readings and the invoices carry by now; nothing is priced wrongly
# because a document can say more than they do.
CARRIED: frozenset[str] = frozenset()
CORRECTION_AGE_MAX = timedelta(days=366)  # a year and a day: beyond that, agree on it in writing


class TariffRefused(ValueError):
    """The tariff stays as it is; the message says why and what to do instead."""


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


@transaction.atomic
def add_version(
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    *,
    source: str = "",
) -> TariffVersion:
    """Continue a tariff with new terms from an instant that no issued invoice reaches past."""
    _check(document, tariff.currency, valid_from)
    _lock(tariff)
    billed_until = _billed_until(tariff)
    if billed_until is not None and valid_from < billed_until:
        raise TariffRefused(
            f"{tariff.code} is billed until {billed_until.isoformat()}; choose that instant or a "
            "later one, or correct the tariff, which bills the difference."
        )
    return _take_over(tariff, document, valid_from, now, source)


@transaction.atomic
def correct(
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    *,
    source: str = "",
) -> TariffVersion:
    """Replace what was published from an instant on. Billed periods are billed the difference."""
    _check(document, tariff.currency, valid_from)
    if valid_from < now - CORRECTION_AGE_MAX:
        raise TariffRefused(f"A correction reaches back {CORRECTION_AGE_MAX.days} days at most.")
    _lock(tariff)
    return _take_over(tariff, document, valid_from, now, source)


def terms_in(tariff: Tariff, period: Period) -> list[PricedTerms]:
    """The terms in force during a period, stretch by stretch, tiling it.

    Where no version is valid the stretch has terms without prices: its usage is unpriced.
    """
    (stretches,) = terms_in_each([(tariff, period)])
    return stretches


def terms_in_each(wanted: Sequence[tuple[Tariff, Period]]) -> list[list[PricedTerms]]:
    """The terms of several periods, found in one statement."""
    versions = TariffVersion.objects.filter(
        tariff__in={tariff.pk for tariff, _ in wanted}, withdrawn_at=None
    )
    valid: dict[int, list[TariffVersion]] = defaultdict(list)
    for version in versions.defer("document").order_by("valid_from"):
        valid[version.tariff_id].append(version)
    return [_tiled(tariff, period, valid[tariff.pk]) for tariff, period in wanted]


def version_at(tariff: Tariff, moment: datetime) -> TariffVersion | None:
    """The version in force at an instant; None where the tariff has no prices."""
    return tariff.versions.filter(
        Q(valid_to=None) | Q(valid_to__gt=moment), withdrawn_at=None, valid_from__lte=moment
    ).first()


def terms_of(version: TariffVersion) -> Terms:
    """A version's terms, parsed once: a published document never changes."""
    return _terms(_Published(version))


def ensure_presets(now: datetime) -> list[Tariff]:
    """Publish the presets that are not there yet. Running it again changes nothing."""
    return [_ensure(code, now) for code in PRESETS]


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


def _check(document: Mapping[str, object], currency: str, valid_from: datetime) -> None:
    terms = parse(document)
    if terms.currency != currency:
        raise TariffRefused(
            f"The document is in {terms.currency} and the tariff in {currency}; "
            "make a tariff for each currency."
        )
    if not_carried := terms.asks_for - CARRIED:
        raise TariffRefused(
            f"Readings and invoices do not carry {', '.join(sorted(not_carried))} yet, and would "
            "charge too little: leave it out, or rate events with `manage.py rate`."
        )
    if quarter_hour(valid_from) != valid_from:
        raise TariffRefused("A version must start on a quarter-hour: readings are no finer.")


def _lock(tariff: Tariff) -> None:
    """Two versions added at once would both close the same one: the tariff's row lines them up."""
    Tariff.objects.select_for_update(no_key=True).get(pk=tariff.pk)


def _billed_until(tariff: Tariff) -> datetime | None:
    billed = Invoice.objects.filter(subscription__tariff=tariff, status=Invoice.Status.ISSUED)
    until: datetime | None = billed.aggregate(until=Max("period_end"))["until"]
    return until


def _take_over(
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    now: datetime,
    source: str,
) -> TariffVersion:
    """Take the rest of the version in force then, or the gap until the next one starts."""
    in_force = version_at(tariff, valid_from)
    if in_force is None:
        later = tariff.versions.filter(withdrawn_at=None, valid_from__gt=valid_from)
        until = later.aggregate(first=Min("valid_from"))["first"]
    else:
        until = in_force.valid_to
        if in_force.valid_from == valid_from:
            tariff.versions.filter(pk=in_force.pk).update(withdrawn_at=now)
        else:
            tariff.versions.filter(pk=in_force.pk).update(valid_to=valid_from)
    return _publish(tariff, document, valid_from, until, now, source)


def _publish(
    tariff: Tariff,
    document: Mapping[str, object],
    valid_from: datetime,
    valid_to: datetime | None,
    now: datetime,
    source: str,
) -> TariffVersion:
    last = tariff.versions.aggregate(last=Max("number"))["last"] or 0
    return TariffVersion.objects.create(
        tariff=tariff,
        number=last + 1,
        valid_from=valid_from,
        valid_to=valid_to,
        known_at=now,
        document=document,
        source=source,
    )


def _unpriced(tariff: Tariff, period: Period) -> PricedTerms:
    terms = Terms(currency=tariff.currency, calendar=None, allowances=(), components=())
    return PricedTerms(f"{tariff.code}@none", period, terms)


@transaction.atomic
def _ensure(code: str, now: datetime) -> Tariff:
    preset = PRESETS[code]
    tariff, _ = Tariff.objects.get_or_create(
        code=code,
        defaults={
            "name": preset.name,
            "currency": preset.currency,
            "description": preset.description,
            "offered": True,
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
