"""What upstreams charge: proposed by lists, approved by people, never overwritten."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, transaction

from accounts import people
from accounts.models import AuditEntry, User
from billing import upstream
from billing.feeds.listing import Fault, Listed, ListedModel, Listing
from billing.models import CatalogModel, CostImport, CostProposal, ModelAlias, ProviderCost

pytestmark = pytest.mark.django_db

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
GPT = ListedModel("openai", "gpt-5", "GPT-5", 400_000, ("gpt-5-chat",))


@pytest.fixture
def ann(db: None) -> User:
    return people.create_verified("ann@cloud.example", "correct horse battery", staff=True)


@pytest.fixture
def ben(db: None) -> User:
    return people.create_verified("ben@cloud.example", "correct horse battery", staff=True)


def listing(*prices: Listed, source: str = "genai-prices", faults: tuple[Fault, ...] = ()):
    return Listing(source, "1", "d" * 64, prices, (GPT,), faults)


def gpt(price: str, register: str = "input") -> Listed:
    return Listed("openai", "gpt-5", register, Decimal(price))


def ids(made: CostImport) -> list[int]:
    return list(made.proposals.values_list("pk", flat=True))


def approved(price: str, ann: User, now: datetime = NOVEMBER) -> ProviderCost:
    made = upstream.propose(listing(gpt(price)), actor=None, now=now)
    (cost,) = upstream.approve(ids(made), actor=ann, now=now)
    return cost


def costs_now(moment: datetime) -> list[tuple[str, Decimal]]:
    return [(cost.register, cost.price) for cost in upstream.in_force(moment)]


def test_an_import_proposes_and_changes_nothing(ann: User) -> None:
    fault = Fault("/bad/input_mtok", "must not be negative, not -1: a sentinel is no price")
    made = upstream.propose(listing(gpt("1.25"), faults=(fault,)), actor=ann, now=NOVEMBER)
    assert costs_now(NOVEMBER) == []
    (proposal,) = made.proposals.all()
    assert (proposal.price, proposal.price_before, proposal.jump) == (Decimal("1.25"), None, "")
    assert made.faults == [fault.as_json()]
    entry = AuditEntry.objects.get(action="costs.imported")
    assert entry.detail == {"digest": "d" * 64, "proposed": 1, "faults": 1}


def test_an_approved_price_holds_and_enters_its_model_in_the_catalogue(ann: User) -> None:
    approved("1.25", ann)
    assert costs_now(NOVEMBER) == [("input", Decimal("1.25"))]
    model = CatalogModel.objects.get()
    assert (model.name, model.provider, model.title, model.context_tokens) == (
        "gpt-5", "openai", "GPT-5", 400_000,
    )  # fmt: skip
    assert [alias.name for alias in model.aliases.all()] == ["gpt-5-chat"]


def test_a_new_price_ends_the_old_one_and_both_stay_on_record(ann: User) -> None:
    approved("1.25", ann)
    approved("1.00", ann, now=DECEMBER)
    assert costs_now(NOVEMBER) == [("input", Decimal("1.25"))]
    assert costs_now(DECEMBER) == [("input", Decimal("1.00"))]


def test_what_is_the_same_is_not_proposed_again(ann: User) -> None:
    approved("1.25", ann)
    made = upstream.propose(listing(gpt("1.25"), gpt("10", "output")), actor=ann, now=DECEMBER)
    assert [proposal.register for proposal in made.proposals.all()] == ["output"]


def test_a_later_import_supersedes_what_is_open_of_its_source_alone(ann: User) -> None:
    first = upstream.propose(listing(gpt("1.25")), actor=ann, now=NOVEMBER)
    other = upstream.propose(listing(gpt("1.20"), source="litellm"), actor=ann, now=NOVEMBER)
    upstream.propose(listing(gpt("1.30")), actor=ann, now=DECEMBER)
    assert first.proposals.get().state == "superseded"
    assert other.proposals.get().state == "proposed"
    assert upstream.approve(ids(first), actor=ann, now=DECEMBER) == []


def test_two_lists_that_disagree_are_shown_beside_each_other(ann: User) -> None:
    one = upstream.propose(listing(gpt("1.25"), gpt("10", "output")), actor=ann, now=NOVEMBER)
    upstream.propose(
        listing(gpt("1.20"), gpt("10", "output"), source="litellm"), actor=ann, now=NOVEMBER
    )
    proposals = list(one.proposals.order_by("register"))
    said = upstream.elsewhere(proposals)
    assert [said[proposal.pk] for proposal in proposals] == ["litellm 1.2", ""]


@pytest.mark.parametrize(
    ("price", "jump"),
    [
        ("12.5", ""),
        ("12.51", "more than 10 times as much"),
        ("0.124", "less than 1/10 of it"),
        ("0", "from or to nothing"),
    ],
)
def test_a_price_that_jumps_is_approved_by_another_than_who_imported_it(
    ann: User, ben: User, price: str, jump: str
) -> None:
    approved("1.25", ben)
    made = upstream.propose(listing(gpt(price)), actor=ann, now=DECEMBER)
    assert made.proposals.get().jump == jump
    if jump:
        with pytest.raises(upstream.CostRefused, match="somebody else"):
            upstream.approve(ids(made), actor=ann, now=DECEMBER)
        assert costs_now(DECEMBER) == [("input", Decimal("1.25"))]
    upstream.approve(ids(made), actor=ben, now=DECEMBER)
    assert costs_now(DECEMBER) == [("input", Decimal(price))]


def test_the_database_lets_nobody_approve_the_jump_he_imported(ann: User, ben: User) -> None:
    approved("1.25", ben)
    upstream.propose(listing(gpt("99")), actor=ann, now=DECEMBER)
    open_ones = CostProposal.objects.filter(state="proposed")
    with pytest.raises(IntegrityError, match="cost_jump_is_approved_by_another"):
        open_ones.update(state="approved", decided_by=ann, decided_at=DECEMBER)


def test_a_proposal_whose_cost_changed_meanwhile_is_refused(ann: User) -> None:
    made = upstream.propose(listing(gpt("1.25")), actor=None, now=NOVEMBER)
    other = upstream.propose(listing(gpt("1.20"), source="litellm"), actor=None, now=NOVEMBER)
    upstream.approve(ids(other), actor=ann, now=NOVEMBER)
    with pytest.raises(upstream.CostRefused, match="import the list again"):
        upstream.approve(ids(made), actor=ann, now=NOVEMBER + timedelta(hours=1))


def test_a_refused_price_leaves_the_cost_as_it_is(ann: User) -> None:
    approved("1.25", ann)
    made = upstream.propose(listing(gpt("1.30")), actor=None, now=DECEMBER)
    assert upstream.refuse(ids(made), actor=ann, now=DECEMBER) == 1
    assert costs_now(DECEMBER) == [("input", Decimal("1.25"))]


def test_costs_are_never_edited_and_never_overlap(ann: User) -> None:
    cost = approved("1.25", ann)
    with pytest.raises(IntegrityError, match="cost_is_never_edited"), transaction.atomic():
        ProviderCost.objects.update(price=1)
    with pytest.raises(IntegrityError, match="cost_stays"), transaction.atomic():
        cost.delete()
    made = upstream.propose(listing(gpt("1.30")), actor=None, now=DECEMBER)
    cost.pk, cost.proposal = None, made.proposals.get()
    with pytest.raises(IntegrityError, match="costs_never_overlap"):
        cost.save(force_insert=True)


def test_a_name_leads_to_one_model(ann: User) -> None:
    approved("1.25", ann)
    gpt_5 = CatalogModel.objects.get()
    for make in (
        lambda: CatalogModel.objects.create(name="gpt-5-chat", provider="other"),
        lambda: ModelAlias.objects.create(model=gpt_5, name="gpt-5"),
    ):
        refused = pytest.raises(IntegrityError, match="model_name_leads_to_one_model")
        with refused, transaction.atomic():
            make()


def test_the_command_proposes_from_a_file_and_refuses_a_corrupt_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "map.json"
    good = {"litellm_provider": "openai", "input_cost_per_token": 1.25e-06}
    path.write_text(json.dumps({"gpt-5": good, "bad": {**good, "input_cost_per_token": -1}}))
    call_command("import_costs", "--from", str(path))
    said = capsys.readouterr().out
    assert "not taken: /bad/input_cost_per_token must not be negative" in said
    assert "1 prices, 1 proposed, 0 of them jump. Nothing changed yet." in said
    path.write_text("{")
    with pytest.raises(CommandError, match="Nothing was proposed"):
        call_command("import_costs", "--from", str(path))
    assert CostImport.objects.count() == 1


def test_the_whole_pinned_package_is_proposed_and_approved_in_one_go(ann: User) -> None:
    call_command("import_costs", "--from", "genai-prices")
    made = CostImport.objects.get()
    costs = upstream.approve(ids(made), actor=ann, now=made.imported_at)
    assert len(costs) == made.priced > 5_000
    again = CostImport.objects.count()
    call_command("import_costs", "--from", "genai-prices")
    assert CostImport.objects.count() == again + 1
    assert CostImport.objects.latest("pk").proposals.count() == 0
