"""Ranges of instants, for the exclusion constraints of what holds from one instant to another."""

from __future__ import annotations

from django.contrib.postgres.fields import DateTimeRangeField
from django.db.models import Func


class InstantRange(Func):
    """The half-open range of instants between two columns."""

    function = "tstzrange"
    output_field = DateTimeRangeField()
