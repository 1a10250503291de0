"""Load profiles: what was used by the quarter-hour, or by the minute where that is summed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import connection

Parameters = dict[str, Any]

REGISTERS = """
    SELECT DISTINCT register FROM metering_readinghour
    WHERE organization_id = %(organization_id)s
      AND starts_at >= date_bin('1 hour', %(start)s, '2000-01-01T00:00Z') AND starts_at < %(end)s
"""
LOAD = """
    SELECT {api_key}, reading.starts_at, sum(reading.quantity)
    FROM metering_reading reading
    JOIN metering_ratingkey key
      ON key.organization_id = reading.organization_id AND key.id = reading.rating_key_id
    WHERE reading.organization_id = %(organization_id)s
      AND reading.starts_at >= %(start)s AND reading.starts_at < %(end)s
      AND reading.register = ANY(%(registers)s)
    GROUP BY 1, 2 ORDER BY 1, 2
"""


LOAD_BY_MINUTE = """
    SELECT {api_key}, key.starts_at, sum(key.quantity)
    FROM metering_minute key
    WHERE key.organization_id = %(organization_id)s
      AND key.starts_at >= %(start)s AND key.starts_at < %(end)s
      AND key.register = ANY(%(registers)s)
    GROUP BY 1, 2 ORDER BY 1, 2
"""


def load_in(
    organization_id: int,
    start: datetime,
    end: datetime,
    *,
    counts: Callable[[str], bool],
    by_key: bool = False,
    by_minute: bool = False,
) -> dict[str, dict[datetime, int]]:
    """What was used in each quarter-hour, by API key or ("") altogether; idle ones are left out.

    `counts` says which registers belong to it: a load adds up what is alike. `by_minute` is for
    organizations that `tell_apart` was asked to sum so.
    """
    parameters: Parameters = {"organization_id": organization_id, "start": start, "end": end}
    found = [register for (register,) in _rows(REGISTERS, parameters) if counts(register)]
    load: dict[str, dict[datetime, int]] = {}
    text = LOAD_BY_MINUTE if by_minute else LOAD
    sql = text.format(api_key="key.api_key" if by_key else "''")
    for api_key, starts_at, quantity in _rows(sql, {**parameters, "registers": found}):
        load.setdefault(api_key, {})[starts_at] = int(quantity)
    return load


# Of everybody: only what the whole system used in a quarter-hour leaves here. Through the list of
# organizations, as the key of readings begins with them: a stretch of time has no other way in.
SYSTEM_LOAD = """
    SELECT reading.starts_at, reading.register, sum(reading.quantity)
    FROM accounts_organization organization
    CROSS JOIN LATERAL (
        SELECT starts_at, register, sum(quantity) AS quantity FROM metering_reading
        WHERE organization_id = organization.id
          AND starts_at >= %(start)s AND starts_at < %(end)s
        GROUP BY 1, 2
    ) reading
    GROUP BY 1, 2
"""


def system_load_in(
    start: datetime, end: datetime, *, counts: Callable[[str], bool]
) -> dict[datetime, int]:
    """What all organizations together used in each quarter-hour of a stretch of time.

    Reads every reading of that time: for what is found once and kept.
    """
    load: dict[datetime, int] = {}
    for starts_at, register, quantity in _rows(SYSTEM_LOAD, {"start": start, "end": end}):
        if counts(register):
            load[starts_at] = load.get(starts_at, 0) + int(quantity)
    return load


def _rows(sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
