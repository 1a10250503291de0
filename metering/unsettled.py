"""What is on its way within readings that were summed: sizes to be told apart, usage to leave."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from accounts import prepared

UNSETTLED = """
    SELECT EXISTS (SELECT FROM metering_reaggregation
                   WHERE organization_id = %(organization_id)s AND starts_at < %(before)s
                     AND finished_at IS NULL),
           EXISTS (SELECT FROM metering_ingestbatch
                   WHERE organization_id = %(organization_id)s AND backfill_id IS NOT NULL
                     AND state = 'reverting')
"""


class Unsettled(NamedTuple):
    """Whether an organization's readings are still to change, though no event comes."""

    being_told_apart: bool  # usage of before an instant, by the sizes that were asked for
    being_taken_out: bool  # usage of a reverted backfill


def unsettled(organization_id: int, before: datetime) -> Unsettled:
    """What an organization's readings of before an instant still wait for."""
    parameters = {"organization_id": organization_id, "before": before}
    (row,) = prepared.rows(UNSETTLED, parameters)
    return Unsettled(*row)
