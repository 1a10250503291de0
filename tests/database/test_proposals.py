"""Four eyes: what jumps is proposed by one person and approved by another, exactly as shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from accounts import people
from accounts.models import AuditEntry, Organization, User
from billing import catalog, proposals
from billing.models import PriceProposal, Tariff, TariffVersion
from billing.rating.tariff import TariffInvalid
from tests import build

pytestmark = pytest.mark.django_db

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
TENFOLD = build.flat_document(price="10.01")
NOTHING = build.flat_document(price="0")


@pytest.fixture
def tariff(db: None) -> Tariff:
    return build.make_tariff(valid_from=JANUARY)


@pytest.fixture
def ann(db: None) -> User:
    return people.create_verified("ann@cloud.example", "correct horse battery", staff=True)


@pytest.fixture
def ben(db: None) -> User:
    return people.create_verified("ben@cloud.example", "correct horse battery", staff=True)


def proposed(tariff: Tariff, ann: User, document=TENFOLD, reason="the index rose") -> PriceProposal:
    return proposals.propose(
        tariff, document, MARCH, "continue", reason=reason, source="", actor=ann, now=JANUARY
    )


def approve(proposal: PriceProposal, actor: User, digest: str = "") -> TariffVersion:
    version = proposals.approve(
        proposal.pk, digest=digest or proposal.digest, comment="seen", actor=actor, now=JANUARY
    )
    assert isinstance(version, TariffVersion)
    return version


def test_up_to_the_threshold_one_person_publishes_alone(tariff: Tariff, ann: User) -> None:
    version = proposals.publish(
        tariff, build.flat_document(price="10"), MARCH, "continue", source="", actor=ann, now=MARCH
    )
    assert str(version) == "flat@2"
    assert AuditEntry.objects.get(action="price.published").actor == ann


@pytest.mark.parametrize("document", [TENFOLD, NOTHING, build.flat_document(price="0.099")])
def test_beyond_the_threshold_nobody_publishes_alone(tariff: Tariff, ann: User, document) -> None:
    for publish in (catalog.add_version, catalog.correct):
        with pytest.raises(catalog.ApprovalNeeded, match="Propose it"):
            publish(tariff, document, MARCH, JANUARY)
    assert tariff.versions.count() == 1


def test_the_threshold_is_a_setting(tariff: Tariff, settings) -> None:
    settings.PRICE_JUMP_FACTOR = 2
    with pytest.raises(catalog.ApprovalNeeded):
        catalog.add_version(tariff, build.flat_document(price="3"), MARCH, JANUARY)


def test_a_second_person_publishes_exactly_what_was_proposed(
    tariff: Tariff, ann: User, ben: User
) -> None:
    proposal = proposed(tariff, ann)
    assert [change["sentence"] for change in proposal.changes] == [
        "component all, price: 1.00 becomes 10.01 (+901.0%)."
    ]
    assert {jump["rule"] for jump in proposal.jumps} == {"rise"}
    version = approve(proposal, ben)
    assert (version.document, version.valid_from) == (TENFOLD, MARCH)
    proposal.refresh_from_db()
    assert (proposal.state, proposal.decided_by, proposal.decision) == ("approved", ben, "seen")
    actions = AuditEntry.objects.order_by("pk").values_list("action", "actor_label")
    assert list(actions) == [
        ("price.proposed", "ann@cloud.example"),
        ("price.approved", "ben@cloud.example"),
    ]


def test_nobody_approves_his_own_proposal(tariff: Tariff, ann: User) -> None:
    proposal = proposed(tariff, ann)
    with pytest.raises(catalog.TariffRefused, match="Somebody else"):
        approve(proposal, ann)
    assert tariff.versions.count() == 1


def test_the_database_lets_nobody_approve_his_own_proposal(tariff: Tariff, ann: User) -> None:
    proposal = proposed(tariff, ann)
    with pytest.raises(IntegrityError, match="proposal_is_approved_by_another"):
        PriceProposal.objects.filter(pk=proposal.pk).update(
            state="approved", decided_by=ann, decided_at=MARCH
        )


def test_what_was_not_shown_is_not_approved(tariff: Tariff, ann: User, ben: User) -> None:
    proposal = proposed(tariff, ann)
    with pytest.raises(catalog.TariffRefused, match="not what was shown"):
        approve(proposal, ben, digest="0" * 64)


def test_a_proposal_is_stale_once_other_prices_were_published(
    tariff: Tariff, ann: User, ben: User
) -> None:
    proposal = proposed(tariff, ann)
    catalog.add_version(tariff, build.flat_document(price="2"), MARCH, JANUARY)
    assert proposals.is_stale(proposal)
    with pytest.raises(catalog.TariffRefused, match="propose again"):
        approve(proposal, ben)


def test_a_new_proposal_supersedes_the_open_one(tariff: Tariff, ann: User, ben: User) -> None:
    first, second = proposed(tariff, ann), proposed(tariff, ann, document=NOTHING)
    first.refresh_from_db()
    assert first.state == "superseded"
    with pytest.raises(catalog.TariffRefused, match="superseded"):
        approve(first, ben)
    assert approve(second, ben).document == NOTHING


def test_a_proposal_is_decided_once(tariff: Tariff, ann: User, ben: User) -> None:
    proposal = proposed(tariff, ann)
    proposals.refuse(proposal.pk, comment="too much", actor=ben, now=JANUARY)
    with pytest.raises(catalog.TariffRefused, match="Refused already"):
        approve(proposal, ben)
    with pytest.raises(IntegrityError, match="proposal_is_decided_once"), transaction.atomic():
        PriceProposal.objects.update(state="approved")


def test_only_its_author_withdraws_a_proposal(tariff: Tariff, ann: User, ben: User) -> None:
    proposal = proposed(tariff, ann)
    with pytest.raises(catalog.TariffRefused, match="Only its author"):
        proposals.withdraw(proposal.pk, actor=ben, now=JANUARY)
    proposals.withdraw(proposal.pk, actor=ann, now=JANUARY)
    proposal.refresh_from_db()
    assert proposal.state == "withdrawn"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"document": NOTHING}, "proposal_is_never_edited"),
        ({"digest": "0" * 64}, "proposal_is_never_edited"),
    ],
)
def test_a_proposal_is_never_edited(tariff: Tariff, ann: User, change, rule: str) -> None:
    proposed(tariff, ann)
    with pytest.raises(IntegrityError, match=rule), transaction.atomic():
        PriceProposal.objects.update(**change)
    with pytest.raises(IntegrityError, match="proposal_stays"), transaction.atomic():
        PriceProposal.objects.all().delete()


def test_what_could_not_be_published_is_not_proposed(tariff: Tariff, ann: User) -> None:
    with pytest.raises(TariffInvalid) as refused:
        proposed(tariff, ann, document=build.flat_document(price="-1"))
    assert refused.value.pointer == "/components/0/price"
    with pytest.raises(catalog.TariffRefused, match="366 days"):
        proposals.propose(
            tariff, TENFOLD, JANUARY, "correct", reason="x", source="", actor=ann,
            now=datetime(2027, 6, 1, tzinfo=UTC),
        )  # fmt: skip
    with pytest.raises(catalog.TariffRefused, match="Say why"):
        proposed(tariff, ann, reason=" ")
    assert tariff.versions.get().valid_to is None


def test_a_version_tells_what_it_changed(tariff: Tariff, acme: Organization) -> None:
    second = catalog.add_version(tariff, build.flat_document(price="2"), MARCH, JANUARY)
    third = catalog.correct(tariff, build.flat_document(price="3"), MARCH, MARCH)
    assert [change.sentence for change in catalog.changed_by(second)] == [
        "component all, price: 1.00 becomes 2 (+100.0%)."
    ]
    assert [change.sentence for change in catalog.changed_by(third)] == [
        "component all, price: 2 becomes 3 (+50.0%)."
    ]
    first = tariff.versions.get(number=1)
    assert [change.kind for change in catalog.changed_by(first)] == ["added"]


def test_what_an_announced_version_changed_outlives_a_correction_before_it(tariff: Tariff) -> None:
    announced = catalog.add_version(tariff, build.flat_document(price="2"), MARCH, JANUARY)
    catalog.correct(tariff, build.flat_document(price="1.50"), JANUARY, JANUARY)
    assert [change.sentence for change in catalog.changed_by(announced)] == [
        "component all, price: 1.00 becomes 2 (+100.0%)."
    ]
