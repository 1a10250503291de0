"""The console: who gets in, what it shows, and what it does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import time_machine
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import api_keys, memberships, organizations, people, projects
from accounts.models import ApiKey, AuditEntry, Organization, Role, User
from billing import allowance, invoicing, negotiations, proposals, upstream
from billing.feeds.listing import Listed, Listing
from billing.models import Invoice, Quota, Subscription, Tariff
from billing.rating.period import Period
from console import health
from console.staff import spread
from metering.models import IngestBatch
from tests import build
from tests.meter import plant_event

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
CANARY = "canary-of-acme"
OWN_PAGES = [
    "/console/",
    "/console/pipeline/",
    "/console/events/",
    "/console/close/",
    "/console/margin/",
    "/console/unpriced/",
]


@pytest.fixture(autouse=True)
def _at_the_moment(now: datetime) -> Iterator[None]:
    with time_machine.travel(now, tick=False):
        yield


@pytest.fixture
def root(db: None) -> User:
    return people.create_verified("root@cloud.example", "correct horse battery", staff=True)


@pytest.fixture
def clerk(db: None) -> User:
    """Staff without superuser: may look."""
    user = build.make_user(email="clerk@cloud.example")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


@pytest.fixture
def operator(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture
def cloud(acme: Organization, alice: User, root: User, now: datetime) -> Subscription:
    """Acme on a tariff since September, with rows of every kind; October is due."""
    organizations.update_billing_details(organization=acme, actor=alice, billing_name=CANARY)
    project = projects.create(organization=acme, name=CANARY, actor=alice)
    api_keys.issue(organization=acme, name=CANARY, scopes=["read"], project=project, actor=alice)
    memberships.invite(
        organization=acme, email="dora@acme.example", role=Role.VIEWER, invited_by=alice, now=now
    )
    subscription = build.make_subscription(organization=acme, starts_at=SEPTEMBER)
    for day in (SEPTEMBER + timedelta(days=3), OCTOBER + timedelta(days=3)):
        build.make_reading(organization=acme, starts_at=day, quantity=2_500_000, model=CANARY)
    allowance.set_quota(acme, 1_000_000, project=project, actor=alice)
    negotiations.agree(subscription, {}, OCTOBER, now, reference=CANARY)
    proposals.propose(
        subscription, {"discounts": [{"code": "d", "percent": "95"}]}, OCTOBER, "continue",
        reason=CANARY, source=CANARY, actor=root, now=now,
    )  # fmt: skip
    cost = Listed("up", CANARY, "input", Decimal(1))
    listing = Listing("list", "1", "d" * 64, (cost,), (), ())
    made = upstream.propose(listing, actor=root, now=now)
    upstream.approve([made.proposals.get().pk], actor=root, now=now)
    september = invoicing.draft(subscription, Period(SEPTEMBER, OCTOBER))
    invoicing.issue(september, now)
    Subscription.objects.filter(pk=subscription.pk).update(next_close_at=NOVEMBER)
    make_batch(acme, 1, "applied")
    return subscription


def make_batch(organization: Organization, number: int, state: str, received_at=None) -> None:
    """A batch with one event, as ingestion and the roll-up leave it."""
    received_at = received_at or timezone.now()
    project = organization.projects.first()
    assert project
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO metering_ingestbatch (organization_id, id, received_at, api_key_id,"
            " submitted, accepted, duplicate, conflict, rejected, state, attempts, last_error,"
            " applied_at, occurred_first, occurred_last)"
            " VALUES (%s, %s, %s, 1, 4, 1, 1, 1, 1, %s, 5, %s, %s, %s, %s)",
            [
                *(organization.pk, number, received_at, state),
                *("boom" if state == "failed" else "", received_at if state == "applied" else None),
                *(received_at, received_at),
            ],
        )
        plant_event(
            cursor, organization.pk, number, received_at, event_id=f"evt-{number}",
            project_id=project.pk, model=CANARY, agent="planner", usage={"input": 77123},
        )  # fmt: skip


def text(response) -> str:
    return response.content.decode()


def errors(response) -> str:
    """The words of the page's own part, so that a failed test says what the page says."""
    page = text(response).partition('id="content"')[2]
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def managed(*inlines: str) -> dict[str, object]:
    """What a browser sends along for the inlines of a page."""
    return {f"{name}-{end}": 0 for name in inlines for end in ("TOTAL_FORMS", "INITIAL_FORMS")}


MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
IDS = [model._meta.label for model in MODELS]


def url(model, page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


# who gets in


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


# what it does


def test_an_organization_is_made_with_its_owner(operator: Client, alice: User):
    values = {"name": "深度求索", "currency": "CNY", "zone": "Asia/Shanghai"}
    response = operator.post(url(Organization, "add"), {**values, "owner_email": alice.email})
    assert response.status_code == 302, errors(response)
    made = Organization.objects.get(name="深度求索")
    assert (made.currency, made.zone) == ("CNY", "Asia/Shanghai")
    assert made.members.get().user == alice
    assert AuditEntry.objects.filter(action="organization.created").count() == 1


def test_a_refused_organization_says_why_at_the_field(operator: Client):
    values = {"name": "Acme", "currency": "USD", "zone": "UTC", "owner_email": "no@one.example"}
    response = operator.post(url(Organization, "add"), values)
    assert "Nobody has an account with this address" in errors(response)
    assert not Organization.objects.exists()


def test_billing_details_are_changed_with_an_audit_row(
    operator: Client, acme: Organization, root: User
):
    values = {"name": "Acme Ltd", "country": "de", "city": "Köln"}
    inlines = managed("subscriptions", "members", "projects", "api_keys")
    assert operator.post(url(Organization, "change", acme.pk), values).status_code == 200
    assert not AuditEntry.objects.exists()
    response = operator.post(url(Organization, "change", acme.pk), values | inlines)
    assert response.status_code == 302, errors(response)
    acme.refresh_from_db()
    assert (acme.name, acme.country, acme.city) == ("Acme Ltd", "DE", "Köln")
    assert set(AuditEntry.objects.values_list("action", "actor")) == {
        ("organization.renamed", root.pk),
        ("organization.billing_details_changed", root.pk),
    }


def test_a_suspension_asks_first_and_goes_on_record(
    operator: Client, acme: Organization, root: User
):
    page = url(Organization, "changelist") + f"{acme.pk}/suspend/"
    assert operator.get(page).status_code == 200
    assert operator.post(page, {"reason": " "}).status_code == 422
    acme.refresh_from_db()
    assert acme.state == "active"
    assert operator.post(page, {"reason": "unpaid"}).status_code == 302
    acme.refresh_from_db()
    assert acme.state == "suspended"
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.detail) == (
        "organization.suspended",
        root,
        {"reason": "unpaid"},
    )
    assert operator.post(page, {"reason": "again"}).status_code == 403
    back = url(Organization, "changelist") + f"{acme.pk}/activate/"
    assert operator.post(back, {"reason": "paid"}).status_code == 302


def test_a_key_is_revoked(operator: Client, acme: Organization):
    api_key, _ = build.make_key(organization=acme)
    operator.post(url(ApiKey, "changelist") + f"{api_key.pk}/revoke/")
    api_key.refresh_from_db()
    assert api_key.revoked_at
    assert AuditEntry.objects.get().action == "api_key.revoked"


def test_staff_set_any_limit_of_a_key(operator: Client, root: User, acme: Organization):
    api_key, _ = build.make_key(organization=acme)
    page = url(ApiKey, "change", api_key.pk)
    said = operator.post(page, {"events_per_s_cap": "0", "bytes_per_s_cap": ""}, follow=True)
    assert "Write a number from 1 to 1,000,000" in said.content.decode()
    operator.post(page, {"events_per_s_cap": "50000", "bytes_per_s_cap": ""})
    api_key.refresh_from_db()
    assert (api_key.events_per_s_max, api_key.bytes_per_s_max) == (50_000, None)
    assert (api_key.events_per_s_cap, api_key.bytes_per_s_cap) == (50_000, None)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor) == ("api_key.capped", root)


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


def test_a_quota_is_set_changed_and_removed(operator: Client, acme: Organization):
    values = {"organization": acme.pk, "project_slug": "", "tokens_per_month": 5_000}
    response = operator.post(url(Quota, "add"), values)
    assert response.status_code == 302, errors(response)
    wrong = operator.post(url(Quota, "add"), values | {"project_slug": "unknown"})
    assert "has no project unknown" in errors(wrong)
    quota = Quota.objects.get()
    assert "above zero" in errors(
        operator.post(url(Quota, "change", quota.pk), {"tokens_per_month": 0})
    )
    operator.post(url(Quota, "change", quota.pk), {"tokens_per_month": 9_000} | managed("alerts"))
    assert Quota.objects.get().tokens_per_month == 9_000
    operator.post(url(Quota, "changelist") + f"{quota.pk}/remove/")
    assert not Quota.objects.exists()
    assert AuditEntry.objects.count() == 3


def test_nobody_takes_his_own_rights_away(operator: Client, root: User, clerk: User):
    values = {"first_name": "", "last_name": ""}
    response = operator.post(url(User, "change", root.pk), values)
    assert "Nobody changes his own rights" in errors(response)
    operator.post(
        url(User, "change", clerk.pk),
        {**values, "is_active": "on"} | managed("memberships", "emailaddress_set"),
    )
    clerk.refresh_from_db()
    assert (clerk.is_active, clerk.is_staff) == (True, False)
    assert AuditEntry.objects.get().detail == {"is_staff": {"before": True, "after": False}}


# invoices and the close


def test_the_close_shows_what_would_be_invoiced_and_writes_nothing(
    operator: Client, cloud: Subscription
):
    before = list(Invoice.objects.values_list("pk", "status"))
    page = text(operator.get(f"/console/close/{cloud.pk}/"))
    assert "1 ended period has no invoice yet" in page
    assert "$2.50" in page
    assert "2026-10-01 00:00 to 2026-11-01 00:00 UTC" in page
    assert list(Invoice.objects.values_list("pk", "status")) == before
    assert "Acme" in text(operator.get("/console/close/"))


def test_a_close_by_hand_issues_what_was_shown_and_goes_on_record(
    operator: Client, cloud: Subscription, root: User
):
    response = operator.post(f"/console/close/{cloud.pk}/now/")
    assert response.status_code == 302, errors(response)
    october = Invoice.objects.get(period_start=OCTOBER)
    assert (october.status, october.total_minor) == ("issued", 250)
    entry = AuditEntry.objects.get(action="period.closed")
    assert (entry.actor, entry.detail) == (root, {"invoices": [october.number]})
    again = operator.post(f"/console/close/{cloud.pk}/now/")
    assert "No period is due" in errors(again)
    assert Invoice.objects.filter(period_start=OCTOBER).count() == 1


def test_a_close_waits_for_batches_that_are_not_in_the_readings(
    operator: Client, cloud: Subscription
):
    make_batch(cloud.organization, 2, "pending", received_at=NOVEMBER - timedelta(hours=1))
    assert "waits for batches" in errors(operator.get(f"/console/close/{cloud.pk}/"))
    assert "It waits for batches" in errors(operator.post(f"/console/close/{cloud.pk}/now/"))
    assert not AuditEntry.objects.filter(action="period.closed").exists()


def test_looking_closes_nothing(operator: Client, cloud: Subscription):
    operator.get(f"/console/close/{cloud.pk}/now/")
    assert not Invoice.objects.filter(period_start=OCTOBER).exists()


def test_a_draft_is_issued_and_an_issued_invoice_is_voided(operator: Client, cloud: Subscription):
    draft = invoicing.draft(cloud, Period(OCTOBER, NOVEMBER))
    page = url(Invoice, "changelist") + f"{draft.pk}"
    assert operator.post(f"{page}/void/", {"reason": "no"}).status_code == 403
    assert operator.post(f"{page}/issue/").status_code == 302
    assert operator.post(f"{page}/issue/").status_code == 403
    assert operator.post(f"{page}/void/", {"reason": "wrong buyer"}).status_code == 302
    draft.refresh_from_db()
    assert (draft.status, draft.void_reason) == ("void", "wrong buyer")
    actions = AuditEntry.objects.order_by("id").values_list("action", flat=True)
    assert list(actions)[-2:] == ["invoice.issued", "invoice.voided"]


def test_an_invoice_cannot_be_edited(operator: Client, cloud: Subscription):
    invoice = Invoice.objects.get()
    response = operator.post(url(Invoice, "change", invoice.pk), {"total_minor": 1})
    assert response.status_code == 403


# events and the pipeline


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


def test_a_failed_batch_is_shown_and_put_back_once(
    operator: Client, cloud: Subscription, root: User
):
    make_batch(cloud.organization, 2, "failed")
    assert "boom" in text(operator.get("/console/pipeline/"))
    assert "1 batch failed for good and needs a person" in errors(operator.get("/console/"))
    page = f"/console/pipeline/{cloud.organization_id}/2/retry/"
    operator.get(page)
    assert IngestBatch.objects.get(id=2).state == "failed"
    assert operator.post(page).status_code == 302
    assert IngestBatch.objects.get(id=2).state == "pending"
    assert AuditEntry.objects.filter(action="batch.retried", actor=root).count() == 1
    assert operator.post(page).status_code == 422


def test_the_dashboard_counts_what_arrived_by_outcome(operator: Client, cloud: Subscription):
    response = operator.get("/console/")
    found = response.context["health"]
    assert (found.accepted, found.duplicate, found.conflict, found.rejected) == (1, 1, 1, 1)
    assert len(found.hours) == 24
    assert found.hours[-1].accepted == 1
    assert found.billing.periods_due == 1
    assert found.billing.issued == [("USD", 1, 250)]
    assert "No background worker has been seen" in text(response)


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


def test_what_arrived_lately_is_found_without_reading_every_batch(db: None, now: datetime):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {health.BY_HOUR}", {"now": now})
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "metering_ingestbatch_by_arrival" in plan
