"""What-if runs: asked for, worked off organization by organization in the background, let go of.

Answers are written, in the run's own rows, and no billing data: each organization is rated where
the database refuses to write. A run is worked on in turns, and others get the worker in between. A
turn that nobody finishes is taken again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Count, Q, QuerySet, Sum

from accounts.models import Organization, User
from accounts.refusals import Refusal
from billing import what_if
from billing.comparisons import COMPARED, ComparedOrganization, Comparison, Verdict
from billing.models import Tariff
from billing.rating.break_even import FACTORS, Point
from billing.read_only import read_only
from billing.what_if import Alternative, Sides

KEPT = timedelta(days=30)
TURN_MAX = timedelta(minutes=2)  # then the worker has died, or its successor's message was lost
EVERYBODY = "all organizations"

logger = logging.getLogger(__name__)


@transaction.atomic
def ask(
    source: Tariff | Mapping[str, object],
    name: str,
    first: date,
    last: date,
    *,
    organizations: Sequence[Organization] = (),
    only_on: Tariff | None = None,
    actor: User,
    now: datetime,
) -> Comparison:
    """Make a run for the organizations named, for those on a tariff, or for all.

    TariffInvalid and TariffRefused for a document that could not be published; Refusal where
    nobody is left to compare, or this person has a run under way.
    """
    other = Alternative(source)
    if not first < last:
        raise Refusal("last", "This must lie after the first day; it is not part of the range.")
    whose = _whose(organizations, only_on, first, now)
    if not whose:
        raise Refusal("organizations", "No organization had a subscription then.")
    try:
        with transaction.atomic():
            run = Comparison.objects.create(
                tariff=source if isinstance(source, Tariff) else None,
                document=None if isinstance(source, Tariff) else source,
                name=name,
                currency=other.currency,
                first=first,
                last=last,
                scope=_scope(organizations, only_on),
                asked_by=actor,
                asked_at=now,
                expires_at=now + KEPT,
            )
    except IntegrityError as clash:
        if "comparison_one_running_per_person" not in str(clash):
            raise
        raise Refusal("", "A comparison of yours is running; wait for it, or cancel it.") from clash
    ComparedOrganization.objects.bulk_create(
        (ComparedOrganization(comparison=run, organization_id=pk) for pk in whose), batch_size=1_000
    )
    return run


def cancel(run: Comparison, now: datetime) -> bool:
    """Stop a run; what it found stays. False: it had come to its end."""
    return _finish(run.pk, Comparison.State.CANCELLED, now)


def due(now: datetime) -> list[tuple[int, int]]:
    """The runs with work left that nobody is at: (run, turn to take)."""
    found = Comparison.objects.filter(
        Q(turn_until=None) | Q(turn_until__lte=now), state=Comparison.State.RUNNING
    )
    return list(found.order_by("asked_at", "pk").values_list("pk", "turn"))


def purge(now: datetime) -> int:
    """Let go of the runs that were kept long enough; how many there were."""
    gone = Comparison.objects.filter(expires_at__lte=now)
    count = gone.count()
    gone.delete()
    return count


def work(run_id: int, turn: int, *, is_time_up: Callable[[], bool], now: datetime) -> int | None:
    """Take a turn at a run until the time is up; the next turn, where something may be left.

    A turn is taken once, however often it is rung for. Every organization is compared first, so
    that the numbers are there soon; then the curves of the break-even chart follow.
    """
    if not _take(run_id, turn, now):
        return None
    run = Comparison.objects.select_related("tariff").get(pk=run_id)
    other = alternative(run)
    while not is_time_up():
        if _step(run, other, _waiting(run), _compare) or _step(run, other, _flat(run), _bend):
            continue
        if not _unfinished(run).exists():
            _finish(run.pk, Comparison.State.DONE, now)
        return None
    return run.turn


def alternative(run: Comparison) -> Alternative:
    """The other tariff of a run."""
    return Alternative(run.tariff or run.document or {})


def sides(run: Comparison, organization: Organization) -> Sides | None:
    """An organization's periods of a run under both tariffs, metered now; None: not comparable."""
    found = _sides(run, alternative(run), organization.pk)
    return found if isinstance(found, Sides) else None


def points(rows: QuerySet[ComparedOrganization]) -> list[Point]:
    """The break-even chart of organizations together; empty until all their curves are there.

    Without those whose usage has no price there: their side would be too low at every factor.
    """
    curves = list(_with_curve(rows).values_list("old_curve", "new_curve"))
    if not curves or not all(old for old, _ in curves):
        return []
    sums = [
        [sum(column) for column in zip(*side, strict=True)] for side in zip(*curves, strict=True)
    ]
    return [Point(*one) for one in zip(FACTORS, *sums, strict=True)]


def curves(run: Comparison) -> tuple[int, int]:
    """How many organizations have their curve, and how many will have one."""
    rows = _with_curve(run.rows.all())
    return rows.exclude(old_curve=[]).count(), rows.count()


def tally(run: Comparison) -> dict[str, int]:
    """How many organizations have each verdict."""
    counted = run.rows.order_by().values_list("verdict").annotate(Count("pk"))
    return dict(counted)


def totals(run: Comparison) -> tuple[int, int]:
    """What those compared so far come to, old and new, in whole minor units."""
    found = run.rows.filter(verdict__in=COMPARED).aggregate(
        old=Sum("old_minor", default=0), new=Sum("new_minor", default=0)
    )
    return int(found["old"]), int(found["new"])


def _whose(
    organizations: Sequence[Organization], only_on: Tariff | None, first: date, now: datetime
) -> list[int]:
    if organizations:
        return sorted({one.pk for one in organizations})
    found = what_if.started(first, now).order_by()
    if only_on is not None:
        found = found.filter(tariff=only_on)
    return sorted(set(found.values_list("organization_id", flat=True)))


def _scope(organizations: Sequence[Organization], only_on: Tariff | None) -> str:
    if len(organizations) == 1:
        return organizations[0].slug
    if organizations:
        return f"{len(organizations):,} organizations"
    return f"organizations on {only_on.code}" if only_on else EVERYBODY


def _unfinished(run: Comparison) -> QuerySet[ComparedOrganization]:
    return _waiting(run) | _flat(run)


def _waiting(run: Comparison) -> QuerySet[ComparedOrganization]:
    return run.rows.filter(verdict=Verdict.WAITING)


def _flat(run: Comparison) -> QuerySet[ComparedOrganization]:
    return _with_curve(run.rows.all()).filter(old_curve=[])


def _with_curve(rows: QuerySet[ComparedOrganization]) -> QuerySet[ComparedOrganization]:
    return rows.filter(verdict__in=COMPARED, unpriced=0)


def _step(
    run: Comparison,
    other: Alternative,
    rows: QuerySet[ComparedOrganization],
    fill: Callable[[ComparedOrganization, Sides], None],
) -> bool:
    """Claim one row and fill it; False where none can be claimed, as after a cancel."""
    still = rows.filter(comparison__state=Comparison.State.RUNNING).order_by("pk")
    with transaction.atomic():
        row = still.select_for_update(of=("self",), skip_locked=True).first()
        if row is None:
            return False
        try:
            with read_only():
                found = _sides(run, other, row.organization_id)
                if isinstance(found, Sides):
                    fill(row, found)
                else:
                    row.verdict = found
        except OperationalError:
            raise
        except Exception:  # one organization's fault must not hold up all the others
            logger.exception("comparison %s: organization %s", run.pk, row.organization_id)
            row.verdict = Verdict.FAILED
        row.save()
    return True


def _sides(run: Comparison, other: Alternative, organization_id: int) -> Sides | Verdict:
    siblings = list(what_if.started(run.first, run.asked_at).filter(organization=organization_id))
    found = what_if.sides(siblings, other, run.first, run.last, run.asked_at)
    if found is None:
        return Verdict.NO_PERIOD
    return found if isinstance(found, Sides) else found.verdict


def _compare(row: ComparedOrganization, found: Sides) -> None:
    one = found.compared()
    row.verdict, row.periods = one.verdict, one.periods
    row.old_minor, row.new_minor = one.old_minor, one.new_minor
    row.unpriced, row.newly_priced = one.unpriced, one.newly_priced
    row.notes = [str(note) for note in one.notes]


def _bend(row: ComparedOrganization, found: Sides) -> None:
    bent = found.points()
    row.old_curve = [point.old_minor for point in bent]
    row.new_curve = [point.new_minor for point in bent]


def _take(run_id: int, turn: int, now: datetime) -> bool:
    waiting = Comparison.objects.filter(pk=run_id, turn=turn, state=Comparison.State.RUNNING)
    return waiting.update(turn=turn + 1, turn_until=now + TURN_MAX) == 1


def _finish(run_id: int, state: Comparison.State, now: datetime) -> bool:
    going = Comparison.objects.filter(pk=run_id, state=Comparison.State.RUNNING)
    return going.update(state=state, finished_at=now) == 1
