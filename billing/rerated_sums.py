"""What a re-rating comes to: sums per currency, who gains and who pays most, and every item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from billing.models import ReratingItem, ReratingJob
from billing.rating.money import from_minor
from billing.spreadsheet import Cell

COLUMNS = (
    "organization", "invoice", "period_start", "period_end", "state", "before", "difference",
    "after", "currency", "note", "failure",
)  # fmt: skip

TO_ISSUE = (ReratingItem.State.DIFFERS, ReratingItem.State.CHANGED)
_COUNTED = (*TO_ISSUE, ReratingItem.State.ISSUED)  # their difference is issued, or would be


@dataclass(frozen=True, slots=True)
class Sums:
    """One currency's invoices, in whole minor units."""

    currency: str
    invoices: int
    differ: int
    before_minor: int
    credits_minor: int  # zero or below
    debits_minor: int

    @property
    def after_minor(self) -> int:
        return self.before_minor + self.credits_minor + self.debits_minor


def of(job: ReratingJob) -> list[Sums]:
    """The sums of a job, a currency each."""
    return _sums(job.items.all())


def to_issue(job: ReratingJob) -> list[Sums]:
    """The sums of what an approval would issue."""
    return _sums(job.items.filter(state__in=TO_ISSUE))


def winners(job: ReratingJob) -> QuerySet[ReratingItem]:
    """The items that money is given back for, the largest first."""
    return _items(job).filter(difference_minor__lt=0).order_by("difference_minor", "pk")


def losers(job: ReratingJob) -> QuerySet[ReratingItem]:
    """The items that more is charged for, the largest first."""
    return _items(job).filter(difference_minor__gt=0).order_by("-difference_minor", "pk")


def failed(job: ReratingJob) -> QuerySet[ReratingItem]:
    """The items that could not be rated."""
    return _all(job).filter(state=ReratingItem.State.FAILED).order_by("pk")


def progress(job: ReratingJob) -> dict[str, int]:
    """How many items are in each state."""
    counts = job.items.values_list("state").annotate(Count("pk")).order_by()
    return dict.fromkeys(ReratingItem.State.values, 0) | dict(counts)


def rows(job: ReratingJob) -> Iterator[list[Cell]]:
    """Every item as a row of a file, under COLUMNS; amounts in units of their currency."""
    yield list(COLUMNS)
    for item in _all(job).order_by("organization__slug", "pk").iterator(chunk_size=500):
        yield [
            item.organization.slug,
            str(item.invoice),
            item.invoice.period_start.isoformat(),
            item.invoice.period_end.isoformat(),
            item.state,
            from_minor(item.before_minor, item.currency),
            from_minor(item.difference_minor, item.currency),
            from_minor(item.after_minor, item.currency),
            item.currency,
            str(item.note or ""),
            item.failure,
        ]


def _sums(items: QuerySet[ReratingItem]) -> list[Sums]:
    differ = Q(state__in=_COUNTED)
    difference = F("difference_minor")
    rows = items.values("currency").annotate(
        invoices=Count("pk"),
        differ=Count("pk", filter=differ),
        before=Sum("before_minor"),
        credits=Coalesce(Sum(difference, filter=differ & Q(difference_minor__lt=0)), 0),
        debits=Coalesce(Sum(difference, filter=differ & Q(difference_minor__gt=0)), 0),
    )
    return [
        Sums(
            row["currency"], row["invoices"], row["differ"], int(row["before"]),
            int(row["credits"]), int(row["debits"]),
        )
        for row in rows.order_by("currency")
    ]  # fmt: skip


def _items(job: ReratingJob) -> QuerySet[ReratingItem]:
    return _all(job).filter(state__in=_COUNTED)


def _all(job: ReratingJob) -> QuerySet[ReratingItem]:
    return job.items.select_related("organization", "invoice", "note").defer("lines")
