"""Rows that hold from one instant to another and never overlap: how a new one takes its place."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, TypeVar

from django.db import models
from django.db.models import Min, Q


class _Holding(Protocol):
    pk: int
    number: int
    known_at: datetime
    valid_from: datetime
    valid_to: datetime | None


_Row = TypeVar("_Row", bound=models.Model)


def holding(rows: models.QuerySet[_Row], moment: datetime) -> models.QuerySet[_Row]:
    """The rows that hold at an instant."""
    return rows.filter(
        Q(valid_to=None) | Q(valid_to__gt=moment), withdrawn_at=None, valid_from__lte=moment
    )


def at(rows: models.QuerySet[_Row], moment: datetime) -> _Row | None:
    """The row that holds at an instant; None where none does."""
    return holding(rows, moment).first()


def before(rows: models.QuerySet[_Row], row: _Row) -> _Row | None:
    """The row that held before another one's start, by what was known when that one came.

    Until when it held is not asked: what came later may have shortened it.
    """
    new: _Holding = row  # type: ignore[assignment]
    return (
        rows.filter(number__lt=new.number, valid_from__lte=new.valid_from)
        .filter(Q(withdrawn_at=None) | Q(withdrawn_at__gte=new.known_at))
        .order_by("-valid_from", "-number")
        .first()
    )


def take_over(rows: models.QuerySet[_Row], valid_from: datetime, now: datetime) -> datetime | None:
    """End the row in force then, or withdraw it where the new one begins with it.

    Returns until when the new row holds: the end of the one it replaces, or where the next one
    starts; None is until further notice. The caller holds the lock that lines writers up.
    """
    in_force: _Holding | None = at(rows, valid_from)  # type: ignore[assignment]
    if in_force is None:
        later = rows.filter(withdrawn_at=None, valid_from__gt=valid_from)
        first: datetime | None = later.aggregate(first=Min("valid_from"))["first"]
        return first
    replaced = rows.filter(pk=in_force.pk)
    if in_force.valid_from == valid_from:
        replaced.update(withdrawn_at=now)
    else:
        replaced.update(valid_to=valid_from)
    return in_force.valid_to
