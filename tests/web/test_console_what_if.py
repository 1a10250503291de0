"""The console's what-if pages: asking, waiting, and what the answer says."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import people
from accounts.models import Organization, User
from billing import comparing, negotiations, proposals, tasks
from billing.comparisons import Comparison, Verdict
from billing.models import Invoice, InvoiceLine, Subscription, Tariff, TariffVersion
from console import what_if_figures as figures
from tests import build
from tests.web.portal_acme import words_in

pytestmark = pytest.mark.django_db

AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
SEPTEMBER_5 = datetime(2026, 9, 5, tzinfo=UTC)
MTOK = 1_000_000
TIMES = "\N{MULTIPLICATION SIGN}"
# Two dollars a period, and then half of what the old tariff asks: worth it from 4 M tokens on.
FEE: dict[str, Any] = {
    "currency": "USD",
    "components": [
        {"code": "all", "models": ["gpt-5"], "registers": ["input"], "shape": "flat", "per": MTOK,
         "price": "0.50"},
    ],
    "charges": [{"code": "base", "kind": "standing", "each": "period", "price": "2.00"}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_moment(now: datetime) -> Iterator[None]:
    with time_machine.travel(now, tick=False):
        yield


@pytest.fixture
def clerk(db: None) -> User:
    """Staff without superuser: may look, and may ask."""
    return staff("clerk@cloud.example")


def staff(email: str) -> User:
    user = build.make_user(email=email)
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def page(clerk: User) -> Client:
    return signed_in(clerk)


@pytest.fixture
def flat(acme: Organization, globex: Organization) -> Tariff:
    """Both pay a dollar a million since August: Acme used 8 M in September, Globex 2 M."""
    tariff = build.make_tariff()
    for organization, tokens in ((acme, 8 * MTOK), (globex, 2 * MTOK)):
        build.make_subscription(organization=organization, starts_at=AUGUST, tariff=tariff)
        build.make_reading(organization=organization, starts_at=SEPTEMBER_5, quantity=tokens)
    return tariff


def question(**values: Any) -> dict[str, Any]:
    document = json.dumps(FEE)
    days = {"first": "2026-09-01", "last": "2026-10-01"}
    return {"other": "document", "organizations": "", "document": document, **days, **values}


def answered(page: Client, **values: Any) -> Comparison:
    """Ask, and let the background work."""
    response = page.post("/console/what-if/", question(**values))
    assert response.status_code == 302, words_in(response.content.decode())
    run = Comparison.objects.latest("pk")
    assert response["Location"] == f"/console/what-if/{run.pk}/"
    work_off(run)
    return run


def work_off(run: Comparison) -> None:
    following = comparing.work(run.pk, run.turn, is_time_up=lambda: False, now=timezone.now())
    assert following is None


def said(page: Client, run: Comparison, rest: str = "") -> str:
    response = page.get(f"/console/what-if/{run.pk}/{rest}")
    assert response.status_code == 200
    return words_in(response.content.decode())


def test_an_answer_has_totals_winners_losers_and_where_both_cost_the_same(
    page: Client, flat: Tariff
) -> None:
    run = answered(page)
    words = said(page, run)
    assert "2 organizations, 2 compared" in words
    assert "Now $10.00 rated anew" in words
    assert "Under a pasted document $9.00 -$1.00, -10.0%" in words
    assert "Would pay less 1" in words
    assert "Would pay more 1" in words
    assert "Who gains most Organization Difference Percent Acme -$2.00 -25.0%" in words
    assert "Who loses most Organization Difference Percent Globex +$1.00 +50.0%" in words
    assert "Both cost the same at about 0.8x the usage" in words.replace(TIMES, "x")


def test_the_charts_stand_once_more_as_tables(page: Client, flat: Tariff) -> None:
    run = answered(page)
    html = page.get(f"/console/what-if/{run.pk}/").content.decode()
    values = [
        json.loads(value.replace("&quot;", '"'))
        for value in re.findall(r'data-value="([^"]*)"', html)
    ]
    lines, bars = values
    assert lines["datasets"][0]["data"] == [
        "0.00", "5.00", "10.00", "15.00", "20.00", "25.00", "30.00", "35.00", "40.00",
    ]  # fmt: skip
    assert lines["datasets"][1]["data"][:3] == ["4.00", "6.50", "9.00"]
    words = words_in(html)
    assert "0x $0.00 $4.00 +$4.00" in words.replace(TIMES, "x")
    assert dict(zip(bars["labels"], bars["datasets"][0]["data"], strict=True)) == {
        **dict.fromkeys(bars["labels"], 0), "10 to 25% less": 1, "25 to 50% more": 1,
    }  # fmt: skip


def test_the_table_is_sorted_as_asked_and_cut_into_pages(
    page: Client, flat: Tariff, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = answered(page)

    def order(asked: str) -> list[str]:
        return [
            row["organization"].slug
            for row in page.get(f"/console/what-if/{run.pk}/?{asked}").context["rows"]
        ]

    assert order("") == order("sort=difference") == ["acme", "globex"]
    assert order("sort=-difference") == order("sort=-percent") == ["globex", "acme"]
    assert order("sort=old") == order("sort=new") == ["globex", "acme"]
    assert order("sort=nonsense&page=99") == ["acme", "globex"]
    monkeypatch.setattr("console.what_if.ROWS_PER_PAGE", 1)
    assert order("page=2") == ["globex"]
    html = page.get(f"/console/what-if/{run.pk}/?sort=old").content.decode()
    assert re.search(r'aria-sort="ascending"[^>]*><a[^>]*href="\?sort=-old#all"', html)


def test_the_file_has_everybody(page: Client, flat: Tariff) -> None:
    berlin = build.make_organization(name="B", slug="b", currency="EUR")
    euro = build.make_tariff(code="euro", currency="EUR")
    build.make_subscription(organization=berlin, starts_at=AUGUST, tariff=euro)
    run = answered(page)
    response = page.get(f"/console/what-if/{run.pk}/organizations.csv")
    rows = list(csv.DictReader(StringIO(response.getvalue().decode())))
    assert [(row["organization"], row["verdict"], row["old"], row["new"]) for row in rows] == [
        ("acme", "cheaper", "8.00", "6.00"),
        ("b", "other_currency", "", ""),
        ("globex", "dearer", "2.00", "3.00"),
    ]
    assert "1 billed in another currency: b" in said(page, run)


def test_one_organization_is_explained_line_by_line(
    page: Client, flat: Tariff, acme: Organization
) -> None:
    run = answered(page)
    words = said(page, run, f"{acme.pk}/")
    assert "Now $8.00 1 period, rated anew" in words
    assert "gpt-5, input Why Now 8,000,000 input tokens of gpt-5 at 1.00 USD per million" in words
    assert "$8.00 $4.00 -$4.00 Charge base" in words
    assert "the same at 0.5x the usage: below that" in words.replace(TIMES, "x")
    assert page.get(f"/console/what-if/{run.pk}/999999/").status_code == 404


def test_a_change_since_the_run_is_said(page: Client, flat: Tariff, acme: Organization) -> None:
    run = answered(page)
    assert "have changed since" not in said(page, run, f"{acme.pk}/")
    build.make_reading(organization=acme, starts_at=SEPTEMBER_5, quantity=MTOK)
    words = said(page, run, f"{acme.pk}/")
    assert "have changed since the comparison ran, which found $8.00 and $6.00" in words
    assert "Now $9.00" in words


def test_usage_without_a_price_there_is_no_saving(
    page: Client, flat: Tariff, acme: Organization
) -> None:
    build.make_reading(organization=acme, starts_at=SEPTEMBER_5, quantity=MTOK, model="qwen")
    run = answered(page)
    words = said(page, run)
    assert "Nobody would pay less." in words
    assert "Acme not clear Some of what was used has no price under the other tariff." in words
    assert "too low, for 1 used what has no price there" in words
    assert "Without 1 organization of whose usage some has no price there." in words
    own = said(page, run, f"{acme.pk}/")
    assert "1,000,000 units have no price there" in own
    assert "It cannot be said while some of what was used has no price" in own
    assert "$1.00 no price -$1.00" in own


def test_what_was_negotiated_is_said(
    page: Client, flat: Tariff, acme: Organization, now: datetime
) -> None:
    negotiations.agree(
        Subscription.objects.get(organization=acme),
        {"discounts": [{"code": "volume", "models": ["*"], "percent": "10"}]},
        AUGUST, now, reference="letter", correcting=True,
    )  # fmt: skip
    words = said(page, answered(page))
    assert "What was negotiated counts in what is paid now" in words
    assert "Acme -$1.20" in words


def test_an_organization_that_used_nothing_is_said(page: Client, flat: Tariff) -> None:
    idle = build.make_organization(name="Idle", slug="idle")
    build.make_subscription(organization=idle, starts_at=AUGUST, tariff=flat)
    words = said(page, answered(page, organizations="idle"))
    assert "Nothing was used." in words
    assert "Idle +$2.00" in words


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"document": "{"}, "No JSON: Expecting property name"),
        ({"document": "[]"}, "/ must be an object"),
        ({"document": json.dumps({**FEE, "charges": [{"code": "base"}]})}, ": /charges/0/kind"),
        ({"document": json.dumps(FEE).replace('"0.50"', '"-0.50"')}, "/components/0/price"),
        ({"last": "2026-09-01"}, "must lie after the first day"),
        ({"first": "1999-12-31"}, "2000-01-01 or later"),
        ({"first": "nonsense"}, "Enter a valid date."),
        ({"organizations": "acme nobody"}, "No organization has this slug: nobody."),
        ({"organizations": "acme", "only_on": "flat"}, "not both"),
        ({"other": "tariff:999999"}, "Select a valid choice"),
        ({"only_on": "nothing"}, "Select a valid choice"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_refused_where_it_is_wrong(
    page: Client, flat: Tariff, values: dict[str, Any], sentence: str
) -> None:
    response = page.post("/console/what-if/", question(**values))
    assert response.status_code == 422
    assert sentence in words_in(response.content.decode()).replace("&quot;", '"')
    assert not Comparison.objects.exists()


def test_the_other_tariff_may_be_published_proposed_or_shipped(
    page: Client, flat: Tariff, now: datetime
) -> None:
    version = TariffVersion.objects.get(tariff=flat)
    proposer = people.create_verified("root@cloud.example", "correct horse battery", staff=True)
    proposal = proposals.propose(
        flat, build.flat_document(price="99.00"), now.replace(minute=15, second=0), "continue",
        reason="dearer", source="", actor=proposer, now=now,
    )  # fmt: skip
    for other, name, new_minor in (
        (f"tariff:{flat.pk}", "flat at its prices then", 1_000),
        (f"tariffversion:{version.pk}", "flat@1", 1_000),
        (f"priceproposal:{proposal.pk}", f"flat, proposal {proposal.pk}", 99_000),
    ):
        run = answered(page, other=other)
        assert (run.name, comparing.totals(run)) == (name, (1_000, new_minor))
    shipped = answered(page, other="preset:flat-usd")
    assert shipped.name == "preset flat-usd"
    assert shipped.rows.exclude(verdict=Verdict.FAILED).count() == 2


def test_nothing_of_what_is_billed_changes(page: Client, flat: Tariff) -> None:
    tables = (Invoice, InvoiceLine, Subscription, Tariff, TariffVersion)
    before = [list(table.objects.order_by("pk").values()) for table in tables]
    answered(page)
    assert [list(table.objects.order_by("pk").values()) for table in tables] == before


def test_asking_rings_for_a_worker_once_it_is_committed(
    page: Client,
    flat: Tariff,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    rung: list[tuple[int, int]] = []
    monkeypatch.setattr(tasks.work_on_comparison, "delay", lambda *turn: rung.append(turn))
    with django_capture_on_commit_callbacks(execute=True):
        page.post("/console/what-if/", question())
    assert rung == [(Comparison.objects.get().pk, 0)]


def test_a_page_shows_how_far_a_run_is_and_htmx_asks_for_that_alone(
    page: Client, flat: Tariff
) -> None:
    page.post("/console/what-if/", question())
    run = Comparison.objects.get()
    url = f"/console/what-if/{run.pk}/"
    whole = page.get(url).content.decode()
    assert f'hx-get="{url}"' in whole
    assert "No organization is compared yet." in whole
    part = page.get(url, headers={"HX-Request": "true"})
    assert "Comparing: 0 of 2 organizations" in words_in(part.content.decode())
    assert "HX-Refresh" not in part
    assert "<html" not in part.content.decode()
    work_off(run)
    assert page.get(url, headers={"HX-Request": "true"})["HX-Refresh"] == "true"
    assert "hx-get" not in page.get(url).content.decode().partition('id="progress"')[2][:400]


def test_who_asked_or_a_superuser_cancels(page: Client, flat: Tariff) -> None:
    page.post("/console/what-if/", question())
    run = Comparison.objects.get()
    url = f"/console/what-if/{run.pk}/cancel/"
    other = signed_in(staff("other@cloud.example"))
    words = words_in(other.post(url, follow=True).content.decode())
    assert "Only clerk@cloud.example or a superuser may cancel it." in words
    assert "Cancelled after 0 of 2" in words_in(page.post(url, follow=True).content.decode())


def test_a_second_question_waits_for_the_first(page: Client, flat: Tariff) -> None:
    assert page.post("/console/what-if/", question()).status_code == 302
    response = page.post("/console/what-if/", question())
    assert response.status_code == 422
    assert "A comparison of yours is running" in words_in(response.content.decode())


def test_an_answer_that_was_let_go_of_is_not_found(
    page: Client, flat: Tariff, now: datetime
) -> None:
    run = answered(page)
    assert "a pasted document" in words_in(page.get("/console/what-if/").content.decode())
    Comparison.objects.update(expires_at=now)
    assert page.get(f"/console/what-if/{run.pk}/").status_code == 404
    assert "None yet." in words_in(page.get("/console/what-if/").content.decode())


def test_the_form_offers_the_last_whole_month(page: Client, flat: Tariff) -> None:
    form = page.get("/console/what-if/?other=preset:flat-usd").context["form"]
    assert (form["first"].value(), form["last"].value()) == (date(2026, 10, 1), date(2026, 11, 1))
    assert form["other"].value() == "preset:flat-usd"


@pytest.mark.parametrize(
    ("old", "new", "label"),
    [
        (100, 100, "no difference"),
        (0, 5, "from nothing"),
        (100, 95, "up to 5% less"),
        (100, 94, "5 to 10% less"),
        (100, 110, "5 to 10% more"),
        (100, 150, "25 to 50% more"),
        (100, 151, "over 50% more"),
        (100, 0, "over 50% less"),
    ],
)
def test_a_difference_falls_into_one_band(old: int, new: int, label: str) -> None:
    assert [band.label for band in figures.bands([(old, new)]) if band.count] == [label]


def test_tariffs_and_proposals_lead_to_the_question(
    page: Client, flat: Tariff, now: datetime
) -> None:
    proposer = people.create_verified("root@cloud.example", "correct horse battery", staff=True)
    proposal = proposals.propose(
        flat, build.flat_document(price="99.00"), now.replace(minute=15, second=0), "continue",
        reason="dearer", source="", actor=proposer, now=now,
    )  # fmt: skip
    for row in (flat, proposal):
        name = row._meta.model_name
        response = page.get(reverse(f"admin:billing_{name}_compare", args=[row.pk]), follow=True)
        assert response.context["form"]["other"].value() == f"{name}:{row.pk}"
    negotiated = proposals.propose(
        Subscription.objects.get(organization__slug="acme"),
        {"discounts": [{"code": "all", "percent": "95"}]}, now.replace(minute=15, second=0),
        "continue", reason="much", source="letter", actor=proposer, now=now,
    )  # fmt: skip
    url = reverse("admin:billing_priceproposal_compare", args=[negotiated.pk])
    assert page.get(url).status_code == 403
