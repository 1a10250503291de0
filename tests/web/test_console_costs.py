"""The cost side in the console: imports, approvals, the catalogue of models, margin."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts import people
from accounts.models import AuditEntry, Organization
from billing.models import CatalogModel, CostImport, CostProposal, ModelAlias, ProviderCost
from tests import build
from tests.web.portal_acme import words_in

PROPOSALS = "/console/billing/costproposal/"
IMPORTS = "/console/billing/costimport/"
MODELS = "/console/billing/catalogmodel/"


@pytest.fixture(autouse=True)
def _at_the_moment(now) -> Iterator[None]:
    with time_machine.travel(now, tick=False):
        yield


def signed_in(email: str) -> Client:
    client = Client()
    client.force_login(people.create_verified(email, "correct horse battery", staff=True))
    return client


@pytest.fixture
def ann(db: None) -> Client:
    return signed_in("ann@cloud.example")


def take_in(client: Client, **prices: float):
    models = {
        name: {"litellm_provider": "openai", "input_cost_per_token": price}
        for name, price in prices.items()
    }
    file = SimpleUploadedFile("map.json", json.dumps(models).encode())
    return client.post(f"{IMPORTS}take_in/", {"source": "litellm", "file": file})


def decide(client: Client, step: str):
    chosen = list(CostProposal.objects.filter(state="proposed").values_list("pk", flat=True))
    return client.post(PROPOSALS, {"action": step, "_selected_action": chosen}, follow=True)


def test_a_list_is_imported_looked_at_and_approved(ann: Client) -> None:
    assert ann.get(f"{IMPORTS}take_in/").status_code == 200
    assert take_in(ann, gpt=1.25e-06, bad=-1).status_code == 302
    made = CostImport.objects.get()
    page = ann.get(f"{IMPORTS}{made.pk}/change/").content.decode()
    assert "/bad/input_cost_per_token: must not be negative" in page
    assert "1.25 USD" in ann.get(PROPOSALS).content.decode()
    assert "1 prices hold now." in decide(ann, "approve").content.decode()
    assert ProviderCost.objects.get().price * 100 == 125
    assert AuditEntry.objects.filter(action="costs.approved").count() == 1


def test_a_jump_is_approved_by_another(ann: Client) -> None:
    take_in(ann, gpt=1e-06)
    decide(ann, "approve")
    take_in(ann, gpt=1e-04)
    assert "somebody else" in decide(ann, "approve").content.decode()
    made = CostImport.objects.latest("pk")
    assert "Approve 0 prices" in ann.get(f"{IMPORTS}{made.pk}/approve_all/").content.decode()
    assert "hold now" in decide(signed_in("ben@cloud.example"), "approve").content.decode()
    assert ProviderCost.objects.get(valid_to=None, withdrawn_at=None).price == 100


def test_all_of_an_import_are_approved_at_once_or_the_chosen_refused(ann: Client) -> None:
    take_in(ann, one=1e-06, two=2e-06)
    made = CostImport.objects.get()
    assert ann.post(f"{IMPORTS}{made.pk}/approve_all/").status_code == 302
    assert ProviderCost.objects.count() == 2
    take_in(ann, one=3e-06)
    assert "1 prices are refused." in decide(ann, "refuse").content.decode()
    assert ProviderCost.objects.count() == 2


@pytest.mark.parametrize("body", [b"{", b"[]", b"<html>"])
def test_a_corrupt_list_is_refused_with_a_reason(ann: Client, body: bytes) -> None:
    file = SimpleUploadedFile("map.json", body)
    response = ann.post(f"{IMPORTS}take_in/", {"source": "litellm", "file": file})
    assert response.status_code == 422
    assert "The file" in response.content.decode()
    assert not CostImport.objects.exists()
    assert ann.post(f"{IMPORTS}take_in/", {"source": "litellm"}).status_code == 422


def test_staff_without_the_permission_import_and_approve_nothing(ann: Client) -> None:
    take_in(ann, gpt=1e-06)
    user = build.make_user(email="clerk@cloud.example")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    clerk = Client()
    clerk.force_login(user)
    assert clerk.get(PROPOSALS).status_code == 200
    assert take_in(clerk, gpt=9e-06).status_code == 403
    decide(clerk, "approve")
    assert not ProviderCost.objects.exists()


def test_a_model_is_entered_with_its_aliases_and_a_name_leads_to_one(ann: Client) -> None:
    values = {"name": "qwen-plus", "provider": "dashscope", "also": "qwen-plus-latest\nqp"}
    assert ann.post(f"{MODELS}add/", values).status_code == 302
    model = CatalogModel.objects.get()
    assert [alias.name for alias in model.aliases.all()] == ["qp", "qwen-plus-latest"]
    taken = ann.post(f"{MODELS}add/", {"name": "qp", "provider": "x"})
    assert "qp is another model already." in taken.content.decode()
    page = f"{MODELS}{model.pk}/change/"
    assert "qwen-plus-latest" in ann.get(page).content.decode()
    assert ann.post(page, values | {"also": "qp", "title": "Qwen Plus"}).status_code == 302
    assert [alias.name for alias in ModelAlias.objects.all()] == ["qp"]
    assert AuditEntry.objects.filter(action="model.changed").count() == 1


def test_margin_and_usage_without_a_price_are_pages(ann: Client, acme: Organization, now) -> None:
    take_in(ann, **{"gpt-5": 2.5e-07})
    decide(ann, "approve")
    starts = now.replace(day=1, hour=0, minute=0, second=0)
    subscription = build.make_subscription(organization=acme, starts_at=starts)
    used = now.replace(hour=0, minute=0, second=0)
    build.make_reading(organization=acme, starts_at=used, quantity=4_000_000)
    page = ann.get("/console/margin/?organization=acm").content.decode()
    assert "4 USD" in page
    assert str(subscription.organization) in page
    assert "unknown" not in page
    page = ann.get("/console/unpriced/").content.decode()
    assert "has a price" in page
    assert "No running subscription" in ann.get("/console/margin/?organization=zz").content.decode()


def test_a_cost_that_nobody_knows_is_not_shown_as_zero(
    ann: Client, acme: Organization, now
) -> None:
    starts = now.replace(day=1, hour=0, minute=0, second=0)
    build.make_subscription(organization=acme, starts_at=starts)
    build.make_reading(
        organization=acme, starts_at=now.replace(hour=0, minute=0, second=0), quantity=4_000_000
    )
    build.make_reading(
        organization=acme, starts_at=starts, quantity=30, model="painter", register="image"
    )
    page = words_in(ann.get("/console/margin/?organization=acm").content.decode())
    row = "4 USD unknown 4,000,000 tokens without a cost unknown -"
    assert f"gpt-5 not in the catalogue {row}" in page
    assert "unknown 30 of what is no tokens without a cost unknown -" in page
