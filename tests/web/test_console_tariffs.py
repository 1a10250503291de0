"""Tariffs and subscriptions in the console."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from accounts.models import AuditEntry, Organization, User
from billing.models import Subscription, Tariff
from console.staff import spread
from tests import build
from tests.web.console_cloud import (
    _at_the_moment,
    cloud,
    errors,
    operator,
    root,
    url,
)

__all__ = ["_at_the_moment", "cloud", "operator", "root"]


def tariff_values(document: object) -> dict[str, object]:
    return {
        "code": "gold",
        "name": "Gold",
        "currency": "USD",
        "description": "",
        "valid_from_0": "2026-10-01",
        "valid_from_1": "00:00:00",
        "document": document if isinstance(document, str) else json.dumps(document),
        "source": "",
    }


def test_a_tariff_is_published_with_its_first_version(operator: Client, root: User):
    response = operator.post(url(Tariff, "add"), tariff_values(build.flat_document()))
    assert response.status_code == 302, errors(response)
    assert Tariff.objects.get().versions.get().document == build.flat_document()
    assert AuditEntry.objects.get().actor == root


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"currency": "USD"}, "/components is missing"),
        ({**build.flat_document(), "extra": 1}, "/extra is no field known here"),
        (build.flat_document(price="-1"), "/components/0/price must be a decimal"),
        (build.flat_document(currency="EUR"), "The document is in EUR"),
        ("{", "No JSON: Expecting property name"),
    ],
)
def test_a_wrong_tariff_document_says_where(operator: Client, db: None, document, says: str):
    response = operator.post(url(Tariff, "add"), tariff_values(document))
    assert response.status_code == 200
    assert says in errors(response)
    assert not Tariff.objects.exists()


@pytest.mark.parametrize(
    "value",
    [
        {"windows": [["09:00", "12:00"], ["14:00", "18:00"]], "days": ["mon", "tue"], "n": [1, 2]},
        {"odd": ["a  b", "[", "]\n[", '"', "\\", "{", "深"], "empty": [], "nothing": None},
        ["x" * 10_000] * 50,
    ],
)
def test_a_document_spread_over_lines_is_the_same_document(value: object):
    assert json.loads(spread(value)) == value


def test_a_subscription_is_started_changed_and_ended(operator: Client, acme: Organization):
    one, two = build.make_tariff(code="one"), build.make_tariff(code="two")
    started = {"starts_at_0": "2026-11-01", "starts_at_1": "00:00:00"}
    values = {"organization": acme.pk, "tariff": one.pk, "anchor_day": 1, "grace_hours": 6}
    response = operator.post(url(Subscription, "add"), values | started)
    assert response.status_code == 302, errors(response)
    again = operator.post(url(Subscription, "add"), values | started)
    assert "end that first" in errors(again)
    page = url(Subscription, "changelist") + f"{Subscription.objects.get().pk}"
    at = {"at_0": "2026-11-10", "at_1": "00:00:00"}
    assert operator.post(f"{page}/change_tariff/", {"tariff": two.pk, **at}).status_code == 302
    assert [row.tariff for row in Subscription.objects.order_by("starts_at")] == [one, two]
    running = Subscription.objects.get(ends_at=None)
    at = {"at_0": "2026-11-20", "at_1": "00:00:00"}
    operator.post(url(Subscription, "changelist") + f"{running.pk}/end/", at)
    assert not Subscription.objects.filter(ends_at=None).exists()
