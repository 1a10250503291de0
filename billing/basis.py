"""What charges rest on besides usage: a period's load, earlier peaks, the term of a promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from billing import negotiations, system_peaks
from billing.models import Subscription
from billing.rating.charge import Basis, Facts, Load
from billing.rating.commitment import Commitment
from billing.rating.demand import EACH_METER, Demand
from billing.rating.period import Period, billing_period, billing_periods
from billing.rating.usage import PricedTerms
from billing.system_peaks import Looked, counts_for_demand
from metering import readings


def facts(
    subscription: Subscription,
    period: Period,
    stretches: Sequence[PricedTerms],
    looked: Looked | None = None,
) -> Facts:
    """What the charges of a period rest on. Asks the meter only where a charge needs it.

    looked: where peaks of the whole system are noted that are not known, and not to be kept.
    """
    zone = ZoneInfo(subscription.zone)
    demands = charged_demands(stretches)
    return Facts(
        zone=zone,
        whole=billing_period(subscription.anchor_day, zone, period.start),
        load=_load(subscription, period, demands) if demands else {},
        system_peaks=system_peaks.known(demands, period, looked),
        peaks_before={
            demand.code: _peaks_before(demand, subscription, period)
            for demand in demands
            if demand.ratchet_months
        },
    )


def term_ending(
    commitment: Commitment, subscription: Subscription, period: Period
) -> datetime | None:
    """When the term began that ends with this period; None if none does.

    A term is so many billing periods from the start of the subscription on. The last one ends with
    the subscription, as does the only one of a promise without a number of months.
    """
    starts = [one.start for one in _periods_until(subscription, period.end)]
    full = commitment.months
    first = (len(starts) - 1) // full * full if full else 0
    is_full = full is not None and len(starts) == first + full
    return starts[first] if is_full or subscription.ends_at == period.end else None


def charged_demands(stretches: Sequence[PricedTerms]) -> list[Demand]:
    """Demand is charged once a period, by the version in force at its end."""
    return [one for one in stretches[-1].terms.charges if isinstance(one, Demand)]


def _load(
    subscription: Subscription, period: Period, demands: Sequence[Demand]
) -> Mapping[str, Load]:
    return readings.load_in(
        subscription.organization_id,
        period.start,
        period.end,
        counts=counts_for_demand,
        by_key=any(demand.basis == EACH_METER for demand in demands),
        by_minute=any(demand.by_minute for demand in demands),
    )


def _peaks_before(demand: Demand, subscription: Subscription, period: Period) -> list[int]:
    """The measured demand of the periods before in which the tariff charged it, oldest first."""
    peaks = []
    for of, before in _periods_before(subscription, period, demand.ratchet_months):
        stretches = negotiations.terms_in(of, before)
        then = [one for one in charged_demands(stretches) if one.code == demand.code]
        for one in then:
            measured = Facts(
                zone=ZoneInfo(of.zone),
                load=_load(of, before, then),
                system_peaks=system_peaks.known(then, before),
            )
            basis = Basis(
                version=stretches[-1].version,
                part=before,
                whole=before,
                currency=of.tariff.currency,
                facts=measured,
                before=(),
            )
            peaks.append(one.measured_tpm(basis))
    return peaks


def _periods_before(
    subscription: Subscription, period: Period, number: int
) -> list[tuple[Subscription, Period]]:
    """The last periods of the organization on this tariff that ended before, oldest first."""
    on_tariff = Subscription.objects.select_related("organization", "tariff").filter(
        organization=subscription.organization_id,
        tariff=subscription.tariff_id,
        starts_at__lt=period.start,
    )
    found = [
        (of, one)
        for of in on_tariff.order_by("starts_at")
        for one in _periods_until(of, period.start)
    ]
    return found[-number:]


def _periods_until(subscription: Subscription, until: datetime) -> Iterator[Period]:
    return billing_periods(
        subscription.anchor_day,
        ZoneInfo(subscription.zone),
        start=subscription.starts_at,
        until=until,
        end=subscription.ends_at,
    )
