"""Events in the console: found by each field, with all there is of them."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from accounts.models import Organization
from billing.models import Subscription
from tests.web.console_cloud import (
    CANARY,
    _at_the_moment,
    cloud,
    operator,
    root,
    text,
)

__all__ = ["_at_the_moment", "cloud", "operator", "root"]


def test_an_event_is_found_with_all_its_fields_and_its_batch(operator: Client, cloud: Subscription):
    asked = {"organization": "acme", "event_id": "evt-1"}
    found = text(operator.get("/console/events/", asked))
    (place,) = re.findall(rf"/console/events/{cloud.organization_id}/1-0/", found)
    page = text(operator.get(place))
    for shown in ("evt-1", "77123", "planner", CANARY, "applied"):
        assert shown in page


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({}, 1),
        ({"model": CANARY}, 1),
        ({"model": "other"}, 0),
        ({"project": "default"}, 0),
        ({"project": CANARY}, 1),
        ({"batch": "1"}, 1),
        ({"start": "2026-11-18", "end": "2026-11-19"}, 1),
        ({"start": "2026-11-18T10:00", "end": "2026-11-18T10:08"}, 1),
        ({"end": "2026-11-18"}, 0),
        ({"event_id": "evt-1' OR 1=1"}, 0),
    ],
)
def test_events_are_searched_by_each_field(operator: Client, cloud, asked, count: int):
    page = text(operator.get("/console/events/", {"organization": "acme", **asked}))
    assert page.count(f"/console/events/{cloud.organization_id}/") == count


@pytest.mark.parametrize(
    "asked",
    [
        {"batch": "x"},
        {"batch": str(2**70)},
        {"start": "yesterday"},
        {"start": "2026-11-02", "end": "2026-11-01"},
        {"project": "unknown"},
        {"organization": "0"},
    ],
)
def test_a_wrong_search_is_told_so(operator: Client, cloud: Subscription, asked: dict[str, str]):
    response = operator.get("/console/events/", {"organization": "acme", **asked})
    assert response.status_code == 200
    assert "evt-1" not in text(response)


def test_events_of_others_are_not_found(operator: Client, cloud, globex: Organization):
    page = text(operator.get("/console/events/", {"organization": "globex", "event_id": "evt-1"}))
    assert "No event of Globex matches" in page
