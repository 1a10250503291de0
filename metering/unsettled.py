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


# Of everybody, by the index of what is open.
OPEN = """
    SELECT EXISTS (SELECT FROM metering_ingestbatch
                   WHERE state IN ('pending', 'failed', 'reverting')
                     AND received_at < %(received_before)s)
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


def anybody_unsettled(received_before: datetime) -> bool:
    """Whether a batch of before an instant, whosever it is, has still to enter the readings or to
    leave them."""
    ((is_open,),) = prepared.rows(OPEN, {"received_before": received_before})
    return bool(is_open)
