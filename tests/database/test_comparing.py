"""What-if runs: worked off in turns, organization by organization, and let go of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from accounts.models import Organization, User
from accounts.refusals import Refusal
from billing import comparing, tasks, what_if
from billing.comparisons import ComparedOrganization, Comparison, Verdict
from billing.models import Tariff
from billing.rating.break_even import FACTORS, Point
from tests import build

pytestmark = pytest.mark.django_db

AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
SEPTEMBER_5 = datetime(2026, 9, 5, tzinfo=UTC)
DAYS = (date(2026, 9, 1), date(2026, 11, 1))
MTOK = 1_000_000
# Two dollars a period, and then half of what the old tariff asks: worth it from 4 M tokens on.
FEE: dict[str, Any] = {
    "currency": "USD",
    "components": [
        {"code": "all", "models": ["*"], "registers": ["input"], "shape": "flat", "per": MTOK,
         "price": "0.50"},
    ],
    "charges": [{"code": "standing", "kind": "standing", "each": "period", "price": "2.00"}],
}  # fmt: skip


@pytest.fixture
def flat(acme: Organization, globex: Organization) -> Tariff:
    """Both pay a dollar a million since August: Acme used 8 M in September, Globex 2 M."""
    tariff = build.make_tariff()
    for organization, tokens in ((acme, 8 * MTOK), (globex, 2 * MTOK)):
        build.make_subscription(organization=organization, starts_at=AUGUST, tariff=tariff)
        build.make_reading(organization=organization, starts_at=SEPTEMBER_5, quantity=tokens)
    return tariff


@pytest.fixture
def run(flat: Tariff, alice: User, now: datetime) -> Comparison:
    return ask(FEE, alice, now)


def ask(source: Any, actor: User, now: datetime, **which: Any) -> Comparison:
    september = (date(2026, 9, 1), date(2026, 10, 1))
    return comparing.ask(source, "house", *which.pop("days", september), actor=actor, now=now,
                         **which)  # fmt: skip


def never() -> bool:
    return False


def after(steps: int) -> Callable[[], bool]:
    """The time is up after so many organizations."""
    left = iter(range(steps))
    return lambda: next(left, None) is None


def work(run: Comparison, now: datetime) -> Comparison:
    assert comparing.work(run.pk, run.turn, is_time_up=never, now=now) is None
    run.refresh_from_db()
    return run


def found(run: Comparison) -> dict[str, tuple[str, int, int]]:
    return {
        row.organization.slug: (row.verdict, row.old_minor, row.new_minor)
        for row in run.rows.select_related("organization")
    }


def test_a_run_compares_everybody_and_then_works_out_the_curves(
    run: Comparison, now: datetime
) -> None:
    assert comparing.work(run.pk, 0, is_time_up=after(2), now=now) == 1
    assert found(run) == {"acme": ("cheaper", 800, 600), "globex": ("dearer", 200, 300)}
    assert comparing.totals(run) == (1_000, 900)
    assert comparing.points(run.rows) == []
    assert comparing.work(run.pk, 1, is_time_up=never, now=now) is None
    run.refresh_from_db()
    assert (run.state, run.finished_at) == (Comparison.State.DONE, now)
    assert [point.factor for point in comparing.points(run.rows)] == list(FACTORS)
    halves = comparing.points(run.rows.filter(organization__slug="acme"))[:3]
    assert halves == [
        Point(FACTORS[0], 0, 200), Point(FACTORS[1], 400, 400), Point(FACTORS[2], 800, 600)
    ]  # fmt: skip


def test_a_turn_is_taken_once_however_often_it_is_rung_for(run: Comparison, now: datetime) -> None:
    assert comparing.work(run.pk, 0, is_time_up=after(1), now=now) == 1
    assert comparing.work(run.pk, 0, is_time_up=never, now=now) is None
    assert comparing.tally(run) == {Verdict.CHEAPER: 1, Verdict.WAITING: 1}


def test_the_sweeper_finds_a_run_that_nobody_is_at(run: Comparison, now: datetime) -> None:
    assert comparing.due(now) == [(run.pk, 0)]
    comparing.work(run.pk, 0, is_time_up=after(1), now=now)
    assert comparing.due(now) == []
    assert comparing.due(now + comparing.TURN_MAX) == [(run.pk, 1)]
    comparing.work(run.pk, 1, is_time_up=never, now=now)
    assert comparing.due(now + comparing.TURN_MAX) == []


def test_the_tasks_work_a_run_off(run: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[tuple[int, int]] = []
    monkeypatch.setattr(tasks.work_on_comparison, "delay", lambda *turn: rung.append(turn))
    monkeypatch.setattr(tasks, "BUSY_S", -1.0)
    tasks.continue_comparisons()
    assert rung == [(run.pk, 0)]
    tasks.work_on_comparison(*rung[0])
    assert rung[1:] == [(run.pk, 1)]
    monkeypatch.setattr(tasks, "BUSY_S", 60.0)
    tasks.work_on_comparison(*rung[1])
    run.refresh_from_db()
    assert run.state == Comparison.State.DONE


def test_a_cancelled_run_keeps_what_it_found_and_does_no_more(
    run: Comparison, now: datetime
) -> None:
    comparing.work(run.pk, 0, is_time_up=after(1), now=now)
    assert comparing.cancel(run, now)
    assert comparing.work(run.pk, 1, is_time_up=never, now=now) is None
    assert comparing.tally(run) == {Verdict.CHEAPER: 1, Verdict.WAITING: 1}
    assert not comparing.cancel(run, now)


def test_one_organization_that_cannot_be_rated_does_not_hold_up_the_others(
    run: Comparison, globex: Organization, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = what_if.between

    def broken(periods: Any, other: Any) -> Any:
        if periods[0][0].organization == globex:
            raise ArithmeticError("boom")
        return real(periods, other)

    monkeypatch.setattr(what_if, "between", broken)
    work(run, now)
    assert comparing.tally(run) == {Verdict.CHEAPER: 1, Verdict.FAILED: 1}
    assert comparing.totals(run) == (800, 600)
    assert run.state == Comparison.State.DONE


def test_rating_cannot_write_and_the_answer_can_be_written(
    run: Comparison, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(what_if, "between", lambda *_: build.make_tariff(code="other"))
    work(run, now)
    assert comparing.tally(run) == {Verdict.FAILED: 2}
    assert not Tariff.objects.filter(code="other").exists()


@pytest.mark.django_db(transaction=True)
def test_a_run_commits_each_answer_by_itself(run: Comparison, now: datetime) -> None:
    """The block that cannot write ends with the rating, outside of a test's transaction too."""
    comparing.work(run.pk, 0, is_time_up=after(1), now=now)
    assert not connection.in_atomic_block
    assert comparing.tally(run)[Verdict.CHEAPER] == 1


def test_who_cannot_be_compared_is_said(
    run: Comparison, flat: Tariff, alice: User, bob: User, now: datetime
) -> None:
    berlin = build.make_organization(name="B", slug="b", currency="EUR")
    euro = build.make_tariff(code="euro", currency="EUR")
    build.make_subscription(organization=berlin, starts_at=AUGUST, tariff=euro)
    late = build.make_organization(name="L", slug="l")
    build.make_subscription(
        organization=late, starts_at=datetime(2026, 10, 5, tzinfo=UTC), tariff=flat
    )
    other = work(ask(FEE, bob, now, organizations=[berlin, late]), now)
    assert comparing.tally(other) == {Verdict.OTHER_CURRENCY: 1, Verdict.NO_PERIOD: 1}
    assert comparing.points(other.rows) == []


def test_a_tariff_without_prices_then_is_no_gift(flat: Tariff, alice: User, now: datetime) -> None:
    young = build.make_tariff(code="young", valid_from=datetime(2026, 11, 1, tzinfo=UTC))
    run = work(ask(young, alice, now), now)
    assert comparing.tally(run) == {Verdict.NO_PRICES: 2}
    assert comparing.totals(run) == (0, 0)


def test_those_on_one_tariff_or_those_named_are_compared(
    flat: Tariff, acme: Organization, globex: Organization, alice: User, bob: User, now: datetime
) -> None:
    third = build.make_organization(name="T", slug="t")
    build.make_subscription(
        organization=third, starts_at=AUGUST, tariff=build.make_tariff(code="third")
    )
    on_flat = ask(FEE, alice, now, only_on=flat)
    assert set(found(on_flat)) == {"acme", "globex"}
    assert on_flat.scope == "organizations on flat"
    named = ask(FEE, bob, now, organizations=[acme])
    assert (set(found(named)), named.scope) == ({"acme"}, "acme")


def test_a_person_has_one_run_at_a_time(run: Comparison, alice: User, now: datetime) -> None:
    with pytest.raises(Refusal, match="running"):
        ask(FEE, alice, now)
    comparing.cancel(run, now)
    assert ask(FEE, alice, now).state == Comparison.State.RUNNING


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        ((date(2026, 9, 1), date(2026, 9, 1)), "must lie after"),
        ((date(2026, 9, 1), date(2026, 8, 1)), "must lie after"),
    ],
)
def test_a_range_runs_forward(
    flat: Tariff, alice: User, now: datetime, days: tuple[date, date], sentence: str
) -> None:
    with pytest.raises(Refusal, match=sentence):
        ask(FEE, alice, now, days=days)


def test_nobody_to_compare_is_said(alice: User, now: datetime) -> None:
    with pytest.raises(Refusal, match="No organization"):
        ask(FEE, alice, now)


def test_a_run_is_let_go_of_after_thirty_days(run: Comparison, now: datetime) -> None:
    assert comparing.purge(now + timedelta(days=29)) == 0
    assert comparing.purge(now + timedelta(days=30)) == 1
    assert not ComparedOrganization.objects.exists()


def test_a_run_of_a_tariff_uses_the_versions_it_had(
    flat: Tariff, alice: User, now: datetime
) -> None:
    run = work(ask(flat, alice, now, days=DAYS), now)
    assert {(old, new) for _, old, new in found(run).values()} == {(800, 800), (200, 200)}
    assert comparing.tally(run) == {Verdict.SAME: 2}


def test_sizes_of_requests_that_readings_do_not_tell_are_not_guessed(
    flat: Tariff, acme: Organization, alice: User, now: datetime
) -> None:
    """A tariff by the size of a request, whose size nobody was asked to tell apart."""
    tiers = [{"above": 0, "price": "1.00"}, {"above": 19_999, "price": "2.00"}]
    part = {key: value for key, value in FEE["components"][0].items() if key != "price"}
    by_size = {"currency": "USD", "components": [{**part, "shape": "request_size", "tiers": tiers}]}
    run = work(ask(by_size, alice, now), now)
    assert comparing.tally(run) == {Verdict.NOT_TOLD_APART: 2}
    assert comparing.totals(run) == (0, 0)
