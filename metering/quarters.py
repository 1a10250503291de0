"""From one event to the readings that it is summed in, and the instant up to which they stand."""

from __future__ import annotations

from typing import Any

from django.db import connection

from accounts import prepared
from metering import netting
from metering.found import FoundEvent

READING = """
    SELECT reading.register, reading.quantity
    FROM metering_ratingkey key
    JOIN metering_reading reading
      ON reading.organization_id = key.organization_id AND reading.rating_key_id = key.id
     AND reading.starts_at = %(starts_at)s
    WHERE (key.organization_id, key.project_id, key.model, key.api_key, key.agent, key.region,
           key.service_class, key.input_band, key.thinking, key.attributes)
        = (%(organization_id)s, %(project_id)s, %(model)s, %(api_key)s, %(agent)s, %(region)s,
           %(service_class)s, %(input_band)s, %(thinking)s, %(attributes)s)
"""


def reading_of(organization_id: int, event: FoundEvent) -> dict[str, int]:
    """What its rating key used in its quarter-hour, by register; this event is part of it.

    Empty while its batch is not applied, unless others of the same key are.
    """
    parameters: dict[str, Any] = {
        "organization_id": organization_id,
        "starts_at": event.quarter_hour,
        "project_id": event.project_id,
        "model": event.model,
        "api_key": event.api_key or "",
        "agent": event.agent or "",
        "region": event.region or "",
        "service_class": event.service_class or "",
        "input_band": event.input_band,
        "thinking": event.thinking,
        "attributes": ",".join(event.attributes),
    }
    with connection.cursor() as cursor:
        cursor.execute(READING, parameters)
        return {register: int(quantity) for register, quantity in cursor.fetchall()}


def stand_still(organization_id: int) -> None:
    """Keep the organization's readings as they are until the transaction ends.

    Waits for the batches being applied. So whatever is written from the readings then and there
    has seen exactly the batches applied before, by the database's clock, and none applied later.
    """
    with prepared.cursor() as cursor:
        netting.lock(cursor, [organization_id], alone=[organization_id])
