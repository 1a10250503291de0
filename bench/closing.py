"""How fast periods are closed and rated; organizations and their readings are made by SQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from bench.report import Result
from bench.scratch import CoreClock

MODELS, REGISTERS = 4, ["input", "cache_read", "cache_write", "output", "reasoning"]
LINES = MODELS * len(REGISTERS)
SIZES = (100, 400)  # organizations; closing is linear where both take as long for each
REPEATED = 5
# One organization's month: 70 rating keys in every quarter-hour of 30 days, five registers each.
KEYS = 70
READINGS = KEYS * len(REGISTERS) * 30 * 96
SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)

RATING_KEYS = """
    INSERT INTO metering_ratingkey
        (organization_id, project_id, model, api_key, agent, region, service_class)
    SELECT project.organization_id, project.id, 'model-' || number %% %(models)s, 'key-' || number,
           '', '', ''
    FROM accounts_project AS project, generate_series(0, %(keys)s - 1) AS number
    WHERE project.organization_id = ANY(%(organizations)s)
"""
# In the order of time, as the roll-up adds them: so they lie beside each other on disk.
READINGS_OF = """
    INSERT INTO metering_reading (organization_id, starts_at, rating_key_id, register, quantity)
    SELECT key.organization_id, starts_at, key.id, register, 1000 + key.id %% 977
    FROM metering_ratingkey AS key,
         generate_series(%(start)s, %(end)s - interval '1 second', %(step)s) AS starts_at,
         unnest(%(registers)s::text[]) AS register
    WHERE key.organization_id = ANY(%(organizations)s)
    ORDER BY 1, 2, 3, 4
"""
HOURS_OF = """
    INSERT INTO metering_readinghour (organization_id, starts_at, rating_key_id, register, quantity)
    SELECT organization_id, date_bin('1 hour', starts_at, '2000-01-01T00:00Z'), rating_key_id,
           register, sum(quantity)
    FROM metering_reading WHERE organization_id = ANY(%(organizations)s)
    GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4
"""
ANALYZE = "ANALYZE metering_ratingkey, metering_reading, metering_readinghour"


def measure(clock: CoreClock) -> Iterator[Result]:
    """Invoices a second and core, at two sizes; and one month of a million readings."""
    rates = {number: _closed(number, clock) for number in SIZES}
    name, unit = f"closing a period, {LINES} lines an invoice", "invoices per core-second"
    for place, which in enumerate(("the first one", "with the one before looked at again")):
        small, large = (rates[number][place] for number in SIZES)
        yield Result(f"{name}, {which}", small, unit)
        yield Result(f"the same, {SIZES[1]} organizations", large, unit,
                     f"{SIZES[0]} organizations", large / small)  # fmt: skip
    yield from _rated()


def _closed(number: int, clock: CoreClock) -> list[float]:
    """Close two periods of each organization, one after another on one connection."""
    from billing import invoicing
    from billing.models import Invoice

    subscriptions = subscribed(number, keys=MODELS, step="1 day", end=NOVEMBER)
    rates = []
    for now in (OCTOBER, NOVEMBER):
        before = time.process_time() + clock.database_s()
        for subscription_id in subscriptions:
            (invoice,) = invoicing.close_period(subscription_id, now)
        took_s = time.process_time() + clock.database_s() - before
        assert invoice.lines.count() == LINES
        rates.append(number / took_s)
    issued = Invoice.objects.filter(subscription__in=subscriptions)
    assert issued.count() == 2 * number, "a period was not closed"
    return rates


def _rated() -> Iterator[Result]:
    from billing import pricing
    from billing.earlier import Earlier
    from billing.models import Subscription
    from billing.rating.period import Period

    (subscription_id,) = subscribed(1, keys=KEYS, step="15 minutes")
    subscription = Subscription.objects.select_related("tariff").get(pk=subscription_id)
    of_period = (subscription, Period(SEPTEMBER, OCTOBER))
    past = Earlier(subscription.organization_id)

    def meter() -> pricing.Metered:
        (metered,) = pricing.meter([of_period])
        return metered

    metered = meter()
    assert len(metered.lines(past)) == LINES
    name = f"a month of {READINGS:,} readings"
    yield Result(f"{name}, grouped in SQL", _best_ms(meter), "ms")
    yield Result(f"{name}, rated once it is grouped", _best_ms(lambda: metered.lines(past)), "ms")


def _best_ms(act: Callable[[], object]) -> float:
    took = []
    for _ in range(REPEATED):
        started_at = time.perf_counter()
        act()
        took.append(time.perf_counter() - started_at)
    return min(took) * 1_000


def subscribed(number: int, *, keys: int, step: str, end: datetime = OCTOBER) -> list[int]:
    """Organizations on one tariff with readings since September; their subscriptions."""
    from accounts.models import Organization, Project
    from billing import catalog
    from billing.models import Subscription, Tariff

    code = f"bench-{number}-{keys}"
    price = {"models": ["*"], "shape": "flat", "per": 1_000_000}
    components = [
        {**price, "code": register, "registers": [register], "price": f"{place}.25"}
        for place, register in enumerate(REGISTERS)
    ]
    document = {"currency": "USD", "components": components}
    tariff: Tariff = catalog.create_tariff(code, code, "USD", document, SEPTEMBER, SEPTEMBER)
    organizations = Organization.objects.bulk_create(
        Organization(name=f"{code} {place}", slug=f"{code}-{place}", currency="USD", zone="UTC")
        for place in range(number)
    )
    Project.objects.bulk_create(
        Project(organization=one, slug="default", name="Default") for one in organizations
    )
    parameters: dict[str, Any] = {
        "organizations": [one.pk for one in organizations],
        "keys": keys,
        "models": MODELS,
        "registers": REGISTERS,
        "start": SEPTEMBER,
        "end": end,
        "step": step,
    }
    with connection.cursor() as cursor:
        for statement in (RATING_KEYS, READINGS_OF, HOURS_OF, ANALYZE):
            cursor.execute(statement, parameters)
    made = Subscription.objects.bulk_create(
        Subscription(
            organization=one, tariff=tariff, starts_at=SEPTEMBER, zone="UTC", next_close_at=OCTOBER
        )
        for one in organizations
    )
    return [one.pk for one in made]
