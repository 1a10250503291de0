"""The console: who gets in, and that every page answers and gives no secret away."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import organizations
from accounts.models import ApiKey, AuditEntry, Organization, User
from billing import invoicing
from billing.models import Subscription, Tariff
from billing.rating.period import Period
from tests import build
from tests.web.console_cloud import (
    CANARY,
    IDS,
    MODELS,
    OCTOBER,
    SEPTEMBER,
    _at_the_moment,
    clerk,
    cloud,
    make_batch,
    operator,
    root,
    text,
    url,
)

__all__ = ["_at_the_moment", "clerk", "cloud", "operator", "root"]


OWN_PAGES = [
    "/console/",
    "/console/pipeline/",
    "/console/events/",
    "/console/close/",
    "/console/margin/",
    "/console/unpriced/",
]


def every_page(cloud: Subscription) -> list[str]:
    pages = [*OWN_PAGES, f"/console/close/{cloud.pk}/", f"/console/close/{cloud.pk}/now/"]
    pages += ["/console/events/?organization=acme"]
    for model in MODELS:
        pages.append(url(model, "changelist"))
        pages += [url(model, "change", row.pk) for row in model._default_manager.all()[:1]]
    return pages


def test_nobody_gets_the_sign_in_page_and_no_data(client: Client, cloud: Subscription):
    for page in every_page(cloud):
        response = client.get(page)
        assert response.status_code == 302, page
        assert response["Location"].startswith(("/accounts/login/", "/console/login/")), page
        assert CANARY not in text(response)


def test_the_consoles_sign_in_is_everybodys_sign_in(client: Client, db: None):
    response = client.get("/console/login/?next=/console/events/")
    assert response["Location"] == "/accounts/login/?next=%2Fconsole%2Fevents%2F"
    assert client.post("/console/login/", {"username": "x", "password": "y"}).status_code == 302


@pytest.mark.parametrize("who", ["alice", "charlie"])
def test_customers_are_refused_and_see_no_data(
    client: Client, cloud: Subscription, alice: User, charlie: User, who: str
):
    client.force_login({"alice": alice, "charlie": charlie}[who])
    for page in every_page(cloud):
        response = client.get(page)
        assert response.status_code in (302, 403), page
        assert CANARY not in text(response)


def test_staff_who_left_are_refused(client: Client, clerk: User, cloud: Subscription):
    client.force_login(clerk)
    assert client.get("/console/pipeline/").status_code == 200
    User.objects.filter(pk=clerk.pk).update(is_active=False)
    assert client.get("/console/pipeline/").status_code == 302


def test_staff_see_every_page_and_change_nothing(client: Client, clerk: User, cloud: Subscription):
    client.force_login(clerk)
    for page in every_page(cloud):
        expected = 403 if page.endswith("/now/") else 200
        assert client.get(page).status_code == expected, page
    for model in MODELS:
        assert client.get(url(model, "add")).status_code == 403
        for row in model._default_manager.all()[:1]:
            assert client.post(url(model, "change", row.pk), {"name": "x"}).status_code == 403
            assert client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


ACTIONS = [
    ("accounts.Organization", "suspend"),
    ("accounts.Organization", "activate"),
    ("accounts.ApiKey", "revoke"),
    ("billing.Invoice", "issue"),
    ("billing.Invoice", "void"),
    ("billing.Subscription", "change_tariff"),
    ("billing.Subscription", "end"),
    ("billing.Quota", "remove"),
    ("billing.Tariff", "add_version"),
    ("billing.Subscription", "negotiate"),
    ("billing.PriceProposal", "approve"),
    ("billing.PriceProposal", "refuse"),
    ("billing.PriceProposal", "withdraw"),
]


@pytest.mark.parametrize(("label", "name"), ACTIONS)
def test_staff_cannot_take_a_step(client: Client, clerk: User, cloud: Subscription, label, name):
    client.force_login(clerk)
    model = next(model for model in MODELS if model._meta.label == label)
    row = model._default_manager.all()[0]
    action = url(model, "changelist") + f"{row.pk}/{name}/"
    before = AuditEntry.objects.count()
    assert client.post(action, {"reason": "because"}).status_code in (403, 404)
    assert AuditEntry.objects.count() == before


# every page answers


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_every_list_answers_and_searches(operator: Client, cloud: Subscription, model):
    assert model._default_manager.exists(), "there must be a row to show"
    assert operator.get(url(model, "changelist")).status_code == 200
    assert operator.get(url(model, "changelist"), {"q": "acme"}).status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_every_form_answers(operator: Client, cloud: Subscription, model):
    adds = admin.site._registry[model].can_add
    assert operator.get(url(model, "add")).status_code == (200 if adds else 403)
    for row in model._default_manager.all():
        assert operator.get(url(model, "change", row.pk)).status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_nothing_is_deleted_here(operator: Client, cloud: Subscription, model):
    row = model._default_manager.all()[0]
    assert operator.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model._default_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("page", OWN_PAGES)
def test_our_own_pages_answer(operator: Client, cloud: Subscription, page: str):
    assert operator.get(page).status_code == 200


def test_only_the_console_may_evaluate_expressions(operator: Client, db: None):
    assert "'unsafe-eval'" in operator.get("/console/")["Content-Security-Policy"]
    for page in ("/accounts/login/", "/accounts/email/", "/nowhere/"):
        assert "unsafe" not in operator.get(page)["Content-Security-Policy"]


def test_no_secret_is_on_a_page(operator: Client, cloud: Subscription):
    api_key = ApiKey.objects.get()
    page = text(operator.get(url(ApiKey, "change", api_key.pk)))
    assert api_key.prefix in page
    assert bytes(api_key.digest).hex() not in page
    assert "digest" not in page
    person = text(operator.get(url(User, "change", User.objects.first().pk)))
    assert "md5$" not in person
    assert "argon2" not in person


LISTS = ["accounts_organization", "accounts_apikey", "billing_subscription", "billing_invoice"]


@pytest.mark.parametrize("name", LISTS)
def test_a_longer_list_asks_the_database_no_more_often(
    operator: Client, root: User, now, name: str
):
    def fill(numbers: range) -> None:
        for number in numbers:
            one = build.make_organization(name=f"Org {number}", slug=f"org-{number}", owner=root)
            build.make_key(organization=one)
            tariff = Tariff.objects.first() or build.make_tariff()
            started = build.make_subscription(organization=one, starts_at=SEPTEMBER, tariff=tariff)
            invoicing.draft(started, Period(SEPTEMBER, OCTOBER))

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert operator.get(reverse(f"admin:{name}_changelist")).status_code == 200
        return len(asked)

    fill(range(2))
    operator.get(reverse(f"admin:{name}_changelist"))
    few = queries()
    fill(range(2, 12))
    assert queries() <= few


def test_a_model_name_cannot_put_a_script_on_a_page(operator: Client, acme: Organization):
    evil = '"><script>alert(1)</script>'
    organizations.rename(organization=acme, name=evil, actor=None)
    make_batch(acme, 1, "failed")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE metering_ingestbatch SET last_error = %s", [evil])
    for page in ("/console/pipeline/", "/console/events/?organization=acme", "/console/"):
        assert "<script>alert" not in text(operator.get(page))
    assert "<script>alert" not in text(operator.get(url(Organization, "changelist")))
    assert "<script>alert" not in text(operator.get(url(Organization, "change", acme.pk)))


@pytest.mark.parametrize(
    "address",
    [
        "/console/accounts/user/?password__startswith=argon2",
        "/console/accounts/user/?password__regex=.",
        "/console/accounts/apikey/?digest__isnull=False",
    ],
)
def test_no_list_can_be_filtered_by_a_secret(
    clerk: User, operator: Client, cloud: Subscription, address: str
):
    """A list that is shorter or not tells a hash letter by letter."""
    client = Client()
    client.force_login(clerk)
    assert client.get(address).status_code == operator.get(address).status_code == 400
