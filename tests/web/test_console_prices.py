"""Prices in the console: shown before they are published, and approved by a second person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import people
from accounts.models import AuditEntry, Organization, User
from billing import catalog, proposals
from billing.models import NegotiatedTerms, PriceProposal, Subscription, Tariff, TariffVersion
from tests import build

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _at_the_moment(now: datetime) -> Iterator[None]:
    with time_machine.travel(now, tick=False):
        yield


@pytest.fixture
def tariff(db: None) -> Tariff:
    return build.make_tariff()


@pytest.fixture
def subscription(acme: Organization, tariff: Tariff) -> Subscription:
    return build.make_subscription(organization=acme, starts_at=OCTOBER, tariff=tariff)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ann(db: None) -> Client:
    return signed_in(people.create_verified("ann@cloud.example", "correct horse", staff=True))


@pytest.fixture
def ben(db: None) -> Client:
    return signed_in(people.create_verified("ben@cloud.example", "correct horse", staff=True))


def clerk(*permissions: str) -> Client:
    """Staff without superuser, who may do this much."""
    user = build.make_user(email="clerk@cloud.example")
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return signed_in(user)


def asked(document: object, **fields: str) -> dict[str, str]:
    at = {"valid_from_0": "2026-12-01", "valid_from_1": "00:00:00"}
    return {"document": json.dumps(document), "how": "continue", "source": "", **at, **fields}


def shown_digest(response) -> str:
    return response.context["shown"]


def take(client: Client, page: str, step: str, document: object, **fields: str):
    """Look at what changes, then take the step with exactly that."""
    values = asked(document, **fields)
    digest = shown_digest(client.post(page, values | {"step": "preview"}))
    return client.post(page, values | {"step": step, "shown": digest})


def page_of(tariff: Tariff) -> str:
    return f"/console/tariffs/{tariff.pk}/publish/"


def test_the_form_starts_from_the_newest_terms(ann: Client, tariff: Tariff) -> None:
    page = ann.get(page_of(tariff)).content.decode()
    assert "&quot;price&quot;: &quot;1.00&quot;" in page


def test_what_changes_is_shown_and_nothing_published_before(ann: Client, tariff: Tariff) -> None:
    response = ann.post(page_of(tariff), asked(build.flat_document(price="2")))
    assert response.status_code == 200
    assert "component all, price: 1.00 becomes 2 (+100.0%)." in response.content.decode()
    assert tariff.versions.count() == 1


def test_only_what_was_shown_is_published(ann: Client, tariff: Tariff) -> None:
    digest = shown_digest(ann.post(page_of(tariff), asked(build.flat_document(price="2"))))
    edited = asked(build.flat_document(price="3"), step="publish", shown=digest)
    assert "becomes 3" in ann.post(page_of(tariff), edited).content.decode()
    assert tariff.versions.count() == 1
    response = take(ann, page_of(tariff), "publish", build.flat_document(price="3"))
    assert response.status_code == 302
    assert tariff.versions.get(number=2).document == build.flat_document(price="3")
    assert AuditEntry.objects.get().action == "price.published"


@pytest.mark.parametrize("price", ["-1", "NaN", "-0.5", "1e3"])
def test_a_price_that_is_none_is_refused_at_its_field(
    ann: Client, tariff: Tariff, price: str
) -> None:
    response = ann.post(page_of(tariff), asked(build.flat_document(price=price)))
    assert response.status_code == 422
    (error,) = response.context["form"].errors["document"]
    assert error.startswith("Line 1, column ")
    assert ": /components/0/price must be a decimal" in error


def test_an_error_names_the_line_of_the_document_as_it_was_written(
    ann: Client, tariff: Tariff
) -> None:
    written = json.dumps(build.flat_document(price="-1"), indent=2).replace("\n", "\r\n")
    response = ann.post(page_of(tariff), asked({}) | {"document": written})
    line = next(number for number, text in enumerate(written.split("\r\n"), 1) if '"price"' in text)
    (error,) = response.context["form"].errors["document"]
    assert error.startswith(f"Line {line}, column 16: /components/0/price")
    assert "\n  &quot;currency&quot;" in response.content.decode().replace("\r", "")


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ('{"currency": "USD",\n "currency": "EUR"}', "An object has the key 'currency' twice"),
        ('{"currency": NaN}', "NaN is no JSON number."),
        ('{\n"currency": }', "No JSON: Expecting value at line 2, column 13."),
    ],
)
def test_a_document_is_read_strictly(
    ann: Client, tariff: Tariff, written: str, complaint: str
) -> None:
    response = ann.post(page_of(tariff), asked({}) | {"document": written})
    assert response.status_code == 422
    (error,) = response.context["form"].errors["document"]
    assert complaint in error


def test_a_jump_is_proposed_and_never_published_alone(ann: Client, tariff: Tariff) -> None:
    jump = build.flat_document(price="11")
    refused = take(ann, page_of(tariff), "publish", jump)
    assert "Propose it" in str(refused.context["form"].errors)
    assert "Say why" in str(take(ann, page_of(tariff), "propose", jump).context["form"].errors)
    response = take(ann, page_of(tariff), "propose", jump, reason="the index rose")
    proposal = PriceProposal.objects.get()
    assert response["Location"] == f"/console/billing/priceproposal/{proposal.pk}/change/"
    assert "more than 10 times as much" in ann.get(response["Location"]).content.decode()
    assert tariff.versions.count() == 1


def proposed(ann: Client, tariff: Tariff) -> str:
    take(ann, page_of(tariff), "propose", build.flat_document(price="11"), reason="index")
    return f"/console/billing/priceproposal/{PriceProposal.objects.get().pk}/"


def test_its_author_is_not_offered_to_approve_it(ann: Client, tariff: Tariff) -> None:
    page = proposed(ann, tariff)
    digest = PriceProposal.objects.get().digest
    assert ann.post(f"{page}approve/", {"digest": digest}).status_code == 403
    assert tariff.versions.count() == 1


def test_a_second_person_approves_it(ann: Client, ben: Client, tariff: Tariff) -> None:
    page = proposed(ann, tariff)
    digest = PriceProposal.objects.get().digest
    assert ben.get(f"{page}approve/").status_code == 200
    wrong = ben.post(f"{page}approve/", {"digest": "0" * 64})
    assert "not what was shown" in wrong.content.decode()
    assert ben.post(f"{page}approve/", {"digest": digest}).status_code == 302
    version = tariff.versions.get(number=2)
    assert version.document == build.flat_document(price="11")
    page = ben.get(f"/console/billing/tariffversion/{version.pk}/change/").content.decode()
    assert "component all, price: 1.00 becomes 11 (+1,000.0%)." in page


def test_a_proposal_is_refused_with_a_reason_or_withdrawn(
    ann: Client, ben: Client, tariff: Tariff
) -> None:
    page = proposed(ann, tariff)
    assert ben.post(f"{page}refuse/", {"reason": ""}).status_code == 422
    assert ben.post(f"{page}withdraw/").status_code == 403
    assert ben.post(f"{page}refuse/", {"reason": "too much"}).status_code == 302
    assert PriceProposal.objects.get().decision == "too much"
    assert ann.post(f"{page}withdraw/").status_code == 403


def test_staff_publish_or_approve_by_permission(ann: Client, tariff: Tariff) -> None:
    publisher = clerk("publish_prices")
    two = build.flat_document(price="2")
    assert take(publisher, page_of(tariff), "publish", two).status_code == 302
    page = proposed(ann, tariff)
    digest = PriceProposal.objects.get().digest
    assert publisher.post(f"{page}approve/", {"digest": digest}).status_code == 403


def test_staff_without_the_permission_do_not_publish(tariff: Tariff) -> None:
    looking = clerk()
    assert looking.get(page_of(tariff)).status_code == 403
    assert looking.post(page_of(tariff), asked(build.flat_document())).status_code == 403


def test_permissions_are_given_by_another_superuser_and_go_on_record(
    ann: Client, tariff: Tariff
) -> None:
    user = build.make_user(email="clerk@cloud.example")
    page = f"/console/accounts/user/{user.pk}/change/"
    inlines = {
        f"{name}-{end}": 0
        for name in ("memberships", "emailaddress_set")
        for end in ("TOTAL_FORMS", "INITIAL_FORMS")
    }
    values = {"is_active": "on", "is_staff": "on", "approve_prices": "on", **inlines}
    assert ann.post(page, values).status_code == 302
    user = User.objects.get(pk=user.pk)
    assert user.has_perm("billing.approve_prices")
    assert not user.has_perm("billing.publish_prices")
    entry = AuditEntry.objects.get(action="user.permissions_changed")
    assert entry.detail == {"given": ["approve_prices"], "taken": []}


def test_negotiated_terms_are_published_like_a_version(
    ann: Client, subscription: Subscription
) -> None:
    page = f"/console/subscriptions/{subscription.pk}/negotiate/"
    assert ann.get(page).status_code == 200
    document = {"discounts": [{"code": "volume", "percent": "5"}]}
    assert "required" in str(take(ann, page, "publish", document).context["form"].errors)
    response = take(ann, page, "publish", document, source="A-17")
    terms = NegotiatedTerms.objects.get()
    assert response["Location"] == f"/console/billing/negotiatedterms/{terms.pk}/change/"
    assert (terms.document, terms.reference) == (document, "A-17")
    assert take(ann, page, "publish", {}, source="A-18").status_code == 302
    gift = {"discounts": [{"code": "volume", "percent": "95"}]}
    assert take(ann, page, "propose", gift, source="A-19", reason="pilot").status_code == 302
    assert PriceProposal.objects.get().subscription == subscription


def test_a_published_version_is_read_only(ann: Client, tariff: Tariff) -> None:
    version = TariffVersion.objects.get()
    page = f"/console/billing/tariffversion/{version.pk}/change/"
    assert ann.post(page, {"source": "https://example.org"}).status_code == 403


def test_the_list_of_proposals_asks_no_more_for_more_of_them(
    ann: Client,
) -> None:
    def questions() -> int:
        with CaptureQueriesContext(connection) as asked_for:
            listed = ann.get("/console/billing/priceproposal/").context["cl"].result_list
        assert len(listed) == PriceProposal.objects.count()
        return len(asked_for)

    proposed(ann, build.make_tariff(code="t0"))
    few = questions()
    for number in range(1, 8):
        take(ann, page_of(build.make_tariff(code=f"t{number}")), "propose",
             build.flat_document(price="11"), reason="index")  # fmt: skip
    assert PriceProposal.objects.count() == 8
    assert questions() == few


def test_the_list_says_of_each_proposal_whether_it_is_stale(
    ann: Client, tariff: Tariff, subscription: Subscription, now: datetime
) -> None:
    """As approving would: for a tariff, and for what rests on a tariff and an agreement."""
    fresh, stale = build.make_tariff(code="fresh"), build.make_tariff(code="stale")
    for one in (fresh, stale):
        take(ann, page_of(one), "propose", build.flat_document(price="11"), reason="index")
    net = {"code": "net", "models": ["*"], "registers": ["input"], "shape": "flat", "per": 1}
    of_subscription = f"/console/subscriptions/{subscription.pk}/negotiate/"
    agreed = {"components": [net | {"price": "9"}]}
    take(ann, of_subscription, "propose", agreed, source="Letter", reason="x")
    seen = proposals.with_staleness(PriceProposal.objects.order_by("pk"))
    assert [one.stale for one in seen] == [proposals.is_stale(one) for one in seen]
    assert [one.stale for one in seen] == [False, False, False]
    december = datetime(2026, 12, 1, tzinfo=UTC)
    for one in (stale, tariff):
        catalog.add_version(one, build.flat_document(price="1.10"), december, now)
    assert [one.stale for one in seen.all()] == [False, True, True]
    assert [proposals.is_stale(one) for one in seen] == [False, True, True]


BLOCKS = {
    "currency": "USD",
    "components": [
        {
            "code": "in", "models": ["small"], "registers": ["input"], "per": 1_000_000,
            "shape": "graduated",
            "steps": [{"from": 0, "price": "2"}, {"from": 5_000_000, "price": "1.50"}],
        }
    ],
}  # fmt: skip
HEARD = 'aria-label="1 to 5,000,000: 2.00 USD; above 5,000,000: 1.50 USD"'


def test_blocks_are_drawn_before_they_are_published_and_after(ann: Client, tariff: Tariff) -> None:
    preview = ann.post(page_of(tariff), asked(BLOCKS)).content.decode()
    assert "flat as it would read" in preview
    assert HEARD in preview
    december, now = datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 11, 18, tzinfo=UTC)
    version = catalog.publish_approved(tariff, BLOCKS, december, now, correcting=False)
    for page in (f"tariff/{tariff.pk}", f"tariffversion/{version.pk}"):
        assert HEARD in ann.get(f"/console/billing/{page}/change/").content.decode()


def test_what_is_refused_is_not_drawn(ann: Client, tariff: Tariff) -> None:
    refused = ann.post(page_of(tariff), asked(build.flat_document(price="-1"))).content.decode()
    assert "as it would read" not in refused
