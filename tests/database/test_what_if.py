"""What if: past periods under another tariff, rated anew on both sides, and nothing written."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import Organization
from billing import invoicing, what_if
from billing.catalog import TariffRefused
from billing.comparisons import Verdict
from billing.models import Invoice, Subscription, Tariff
from billing.what_if import Alternative, Answer, Sides
from tests import build

pytestmark = pytest.mark.django_db

AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
MTOK = 1_000_000
NOON = datetime(2026, 9, 15, 12, tzinfo=UTC)  # a Tuesday
MIDNIGHT = datetime(2026, 9, 16, tzinfo=UTC)
DAYS = (date(2026, 9, 1), date(2026, 11, 1))
PEAKS: dict[str, Any] = {
    "currency": "USD",
    "calendar": {
        "zone": "UTC",
        "default": "off_peak",
        "rules": [{"bucket": "peak", "days": ["tue"], "windows": [["09:00", "18:00"]]}],
    },
    "components": [
        {"code": "all", "models": ["gpt-*"], "registers": ["input"], "per": MTOK,
         "shape": "time_of_use", "prices": {"peak": "2.00", "off_peak": "0.50"}},
    ],
}  # fmt: skip


@pytest.fixture
def flat(acme: Organization, globex: Organization) -> Tariff:
    """Both pay a dollar a million: Acme uses at night, Globex by day."""
    tariff = build.make_tariff()
    for organization in (acme, globex):
        build.make_subscription(organization=organization, starts_at=AUGUST, tariff=tariff)
    build.make_reading(organization=acme, starts_at=MIDNIGHT, quantity=4 * MTOK)
    build.make_reading(organization=globex, starts_at=NOON, quantity=3 * MTOK)
    return tariff


def ask(other: Alternative, now: datetime, **whose: Organization) -> Answer:
    return what_if.compare(other, *DAYS, now, **whose)


def test_who_gains_and_who_loses_depends_on_when_they_use(
    flat: Tariff, acme: Organization, globex: Organization, now: datetime
) -> None:
    answer = ask(Alternative(PEAKS), now)
    assert [(one.organization, one.old_minor, one.new_minor) for one in answer.compared] == [
        (acme, 400, 200),
        (globex, 300, 600),
    ]
    assert [one.organization for one in answer.winners] == [acme]
    assert [one.organization for one in answer.losers] == [globex]
    assert (answer.old_minor, answer.new_minor) == (700, 800)
    assert {one.periods for one in answer.compared} == {2}  # September and October


def test_the_same_tariff_costs_the_same_to_the_cent(flat: Tariff, now: datetime) -> None:
    assert [one.difference_minor for one in ask(Alternative(flat), now).compared] == [0, 0]


def test_the_old_side_is_what_was_billed(flat: Tariff, acme: Organization, now: datetime) -> None:
    invoicing.close_period(Subscription.objects.get(organization=acme).pk, now)
    billed = Invoice.objects.filter(
        organization=acme, period_start__gte=NOON.replace(day=1, hour=0)
    )
    (one,) = ask(Alternative(PEAKS), now, organization=acme).compared
    assert one.old_minor == sum(invoice.total_minor for invoice in billed)


def test_periods_that_run_or_begin_outside_the_range_are_left_out(
    flat: Tariff, acme: Organization
) -> None:
    build.make_reading(
        organization=acme, starts_at=datetime(2026, 10, 5, tzinfo=UTC), quantity=MTOK
    )
    early = datetime(2026, 10, 20, tzinfo=UTC)
    (one,) = ask(Alternative(PEAKS), early, organization=acme).compared
    assert (one.periods, one.old_minor) == (1, 400)


def test_local_days_decide_in_which_range_a_period_lies(now: datetime) -> None:
    """October in Shanghai begins on the last of September in UTC."""
    shanghai = build.make_organization(name="S", slug="s", zone="Asia/Shanghai")
    build.make_subscription(organization=shanghai, starts_at=AUGUST)
    build.make_reading(
        organization=shanghai, starts_at=datetime(2026, 9, 30, 17, tzinfo=UTC), quantity=MTOK
    )
    october = (date(2026, 10, 1), date(2026, 11, 1))
    (one,) = what_if.compare(Alternative(PEAKS), *october, now).compared
    assert (one.periods, one.old_minor) == (1, 100)


def test_usage_without_a_price_is_said_and_not_called_cheap(
    flat: Tariff, acme: Organization, now: datetime
) -> None:
    build.make_reading(organization=acme, starts_at=NOON, quantity=7, model="other")
    (one,) = ask(Alternative(PEAKS), now, organization=acme).compared
    assert one.unpriced == 7


def test_a_peak_grows_with_the_usage_that_made_it(
    flat: Tariff, acme: Organization, now: datetime
) -> None:
    """A break-even chart of demand: twice the load of a quarter-hour is twice its peak."""
    demand = {"code": "peak", "kind": "demand", "price": "10.00", "window_minutes": 15}
    other = Alternative({**PEAKS, "charges": [demand]})
    siblings = list(Subscription.objects.filter(organization=acme))
    found = what_if.sides(siblings, other, DAYS[0], date(2026, 10, 1), now)
    assert isinstance(found, Sides)
    alone = [point.new_minor - 200 * point.factor for point in found.points()]
    assert alone[2] == 266_667  # cents: 4 M in a quarter-hour are 266,667 a minute, $10 a thousand
    assert [point.old_minor for point in found.points()][2:5:2] == [400, 800]
    assert alone[4] == 533_333
    assert alone[0] == 0


def test_another_currency_is_left_out_by_name(flat: Tariff, now: datetime) -> None:
    answer = ask(Alternative({**PEAKS, "currency": "EUR"}), now)
    assert answer.compared == []
    assert [one.organization.slug for one in answer.which(Verdict.OTHER_CURRENCY)] == [
        "acme", "globex",
    ]  # fmt: skip


def test_nothing_can_be_written_meanwhile(
    flat: Tariff, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> Any:
        build.make_tariff(code="other")

    monkeypatch.setattr(what_if, "between", write)
    with pytest.raises(Exception, match="read-only transaction"):
        ask(Alternative(PEAKS), now)


def test_a_document_that_could_not_be_published_is_refused() -> None:
    part = PEAKS["components"][0] | {"shape": "flat", "price": "1"}
    part.pop("prices")
    document = {"currency": "USD", "time_basis": "request_end", "components": [part]}
    with pytest.raises(TariffRefused):
        Alternative(document)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("what_if", "--from=2026-09-01", "--to=2026-11-01", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_compares_all_or_one(flat: Tariff, tmp_path: Path) -> None:
    path = tmp_path / "T.json"
    path.write_text(json.dumps(PEAKS))
    table = run(f"--tariff={path}")
    assert "acme                2  4.00  2.00       -2.00       USD         0" in table
    assert "1 cheaper under document, 1 dearer; 7.00 becomes 8.00 USD (1.00)" in table
    found = json.loads(run(f"--tariff={path}", "--organization=globex", "--format=json"))
    (one,) = found["organizations"]
    assert (one["organization"], one["difference"], found["losers"]) == ("globex", "3.00", 1)
    assert run("--tariff=flat", "--format=csv").splitlines()[1].startswith("acme,2,4.00,4.00,0.00")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--tariff=nowhere"], "No such file"),
        (["--tariff=flat", "--organization=nobody"], "no organization nobody"),
        (["--tariff=flat", "--to=2026-09-01"], "must lie after"),
    ],
)
def test_a_wrong_argument_is_refused_in_words(flat: Tariff, arguments: list[str], why: str) -> None:
    with pytest.raises(CommandError, match=why):
        run(*arguments)
