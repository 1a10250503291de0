"""Checking one request: found by any mark, followed to its invoice line, by those who may."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from django.test import Client

from accounts.models import ApiKey, Organization, User
from billing import fate_totals, invoicing, searching, tasks
from billing.fates import Fate
from metering import found, readings, tally_blocks
from metering.readings import FoundEvent
from metering.usage.correction import Correction
from tests import build
from tests.corrections import send
from tests.meter import Door, apply_all, database, empty_meter, make_event, no_bell
from tests.web.portal_acme import signed_in, text_of, words_in

__all__ = ["database", "empty_meter", "no_bell"]

Database = psycopg.Connection[Any]
URL = "/api/v1/usage/events"
# The month before this one is over, by whatever clock; usage of it is billed.
END = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
START = (END - timedelta(days=1)).replace(day=1)


@pytest.fixture
def billed(database: Database, acme: Organization) -> Organization:
    """Last month, invoiced: two requests of one model at a dollar a million."""
    subscription = build.make_subscription(organization=acme, starts_at=START)
    send(database, acme, [
        event(1, usage={"input": 1_200, "output": 80}, session="run-7", api_key="team-a"),
        event(2, usage={"input": 800}, agent="crawler"),
    ])  # fmt: skip
    apply_all()
    invoicing.close_period(subscription.pk, END)
    return acme


def event(number: int, **fields: Any) -> Any:
    at = START + timedelta(hours=1, minutes=number)
    return make_event(now=at, id=f"req-{number}", occurred_at=at.isoformat(), **fields)


def stored(organization: Organization, event_id: str) -> FoundEvent:
    (one,) = readings.find_events(organization.pk, event_id=event_id)
    return one


def page_of(organization: Organization, event_id: str) -> str:
    return f"/o/acme/events/{stored(organization, event_id).place}/"


class Api:
    def __init__(self, client: Client, key: str) -> None:
        self.client, self.headers = client, {"Authorization": f"Bearer {key}"}

    def get(self, place: str = "", **parameters: Any) -> Any:
        return self.client.get(f"{URL}{place}", parameters, headers=self.headers)


@pytest.fixture
def api(client: Client, billed: Organization) -> Api:
    return Api(client, build.make_key(organization=billed, scopes=("read",))[1])


def test_the_page_lists_events_with_their_fate_and_finds_them_by_every_mark(
    billed: Organization, bob: User
) -> None:
    client = signed_in(bob)
    page = text_of(client, "/o/acme/events/")
    assert page.index("req-2") < page.index("req-1")
    assert page.count("billed") == 3  # each of them, and one may search by it
    day = START.date().isoformat()
    for mark in ("event=req-1", "session=run-7", "api_key=team-a",
                 "event=req-1&source=gateway-1&project=default&model=deepseek-v4",
                 f"event=req-1&first={day}&last={day}"):  # fmt: skip
        found_ = text_of(client, f"/o/acme/events/?{mark}")
        assert "req-1" in found_, mark
        assert "req-2" not in found_, mark
    assert "No event matches" in text_of(client, "/o/acme/events/?event=nowhere")
    assert "No event matches" in text_of(client, f"/o/acme/events/?last={START.year - 1}-01-01")


def test_an_event_is_followed_to_its_invoice_line_with_the_arithmetic(
    billed: Organization, bob: User
) -> None:
    page = text_of(signed_in(bob), page_of(billed, "req-1"))
    assert "It is on an issued invoice, at a price. It comes to $0.00128 , exactly" in page
    assert "Input 1,200 1,200" in page  # the other one has no key of its own: another reading
    assert "Input 2,000 all $1.00 per 1,000,000 $0.0012" in page
    invoice = billed.invoices.get()
    for line in invoice.lines.all():
        assert f"{invoice.number}, line {line.position}" in page
    assert "None: nothing took this event back" in page


def test_an_invoice_line_leads_to_the_events_beneath_it(billed: Organization, bob: User) -> None:
    number = billed.invoices.get().number
    html = signed_in(bob).get(f"/o/acme/invoices/{number}/lines/1/").content.decode()
    day = START.date().isoformat()
    link = f"/o/acme/events/?model=deepseek-v4&amp;first={day}&amp;last={day}"
    assert link in html
    assert "req-1" in text_of(signed_in(bob), link.replace("&amp;", "&"))


def test_a_void_and_an_amendment_stand_on_the_page(
    database: Database, billed: Organization, bob: User
) -> None:
    amendment = Correction("req-3", "gateway-1", "req-2", None, event(3, usage={"input": 7}))
    send(database, billed, [Correction("v-1", "gateway-1", "req-1", "sent twice", None), amendment])
    client = signed_in(bob)
    waiting = text_of(client, page_of(billed, "req-1"))
    assert "which is not in the readings yet: until then this event counts" in waiting
    apply_all()
    gone = text_of(client, page_of(billed, "req-1"))
    assert "A void took it back: it counts nowhere." in gone
    assert "Taken back by the void v-1" in gone
    assert "Reason: sent twice" in gone
    assert "Amended by req-3" in text_of(client, page_of(billed, "req-2"))
    news = text_of(client, page_of(billed, "req-3"))
    assert "It amends req-2 , and counts in its place." in news
    assert "the next invoice carries the difference" in news


def test_an_amendment_that_was_amended_is_not_said_to_count(
    database: Database, billed: Organization, bob: User
) -> None:
    first = Correction("req-3", "gateway-1", "req-2", None, event(3, usage={"input": 7}))
    again = Correction("req-4", "gateway-1", "req-3", None, event(4, usage={"input": 8}))
    send(database, billed, [first])
    send(database, billed, [again])
    apply_all()
    page = text_of(signed_in(bob), page_of(billed, "req-3"))
    assert "It amends req-2 , and was itself taken back." in page
    assert "counts in its place." not in page.split("Corrections")[1]
    assert "its amounts are what it would have come to" in page


def test_staff_are_not_told_that_a_void_event_comes_to_an_amount(
    database: Database, billed: Organization, charlie: User
) -> None:
    send(
        database,
        billed,
        [Correction("req-3", "gateway-1", "req-2", None, event(3, usage={"input": 7}))],
    )
    apply_all()
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    place = stored(billed, "req-2").place
    page = text_of(signed_in(charlie), f"/console/events/{billed.pk}/{place}/")
    assert "It would have come to" in page
    assert "It comes to" not in page


@pytest.mark.parametrize(
    "place", ["9-9", "999999999999999999-0", "99999999999999999999-0", "1-99999"]
)
def test_a_place_that_holds_no_event_is_not_found(
    billed: Organization, bob: User, api: Api, place: str
) -> None:
    assert signed_in(bob).get(f"/o/acme/events/{place}/").status_code == 404
    answer = api.get(f"/{place}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_nobody_finds_the_event_of_another_organization(
    billed: Organization, globex: Organization, charlie: User, client: Client
) -> None:
    place = stored(billed, "req-1").place
    assert signed_in(charlie).get(f"/o/acme/events/{place}/").status_code == 404
    assert signed_in(charlie).get(f"/o/globex/events/{place}/").status_code == 404
    assert "req-1" not in text_of(
        signed_in(charlie), "/o/globex/events/?event=req-1&model=deepseek-v4"
    )
    foreign = Api(client, build.make_key(organization=globex, scopes=("read",))[1])
    assert foreign.get(f"/{place}").status_code == 404
    assert foreign.get(id="req-1").json()["events"] == []


def test_staff_follow_any_event(billed: Organization, charlie: User) -> None:
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    client = signed_in(charlie)
    listed = text_of(client, "/console/events/?organization=acme&session=run-7")
    assert "req-1" in listed
    assert "billed" in listed
    place = stored(billed, "req-1").place
    page = text_of(client, f"/console/events/{billed.pk}/{place}/")
    assert "It comes to 0.00128 USD, exactly." in page
    assert f"{billed.invoices.get().number}, line 1" in page
    assert client.get(f"/console/events/{billed.pk}/9-9/").status_code == 404
    assert client.get(f"/console/events/{billed.pk}/{2**64}-0/").status_code == 404


def test_the_api_answers_with_the_event_its_fate_and_its_lines(
    billed: Organization, api: Api
) -> None:
    (listed,) = api.get(id="req-1").json()["events"]
    assert (listed["fate"], listed["reason"]) == ("billed", "priced")
    assert listed["event"]["usage"] == {"input": 1200, "output": 80}
    one = api.get(f"/{listed['place']}").json()
    assert {name: one[name] for name in listed} == listed
    input_, output = one["registers"]
    assert (input_["amount"], input_["amount_is_exact"], input_["reading"]) == (
        "0.0012",
        True,
        1200,
    )
    (part,) = output["parts"]
    invoice = billed.invoices.get()
    line = invoice.lines.get(register="output")
    assert part["lines"] == [{"invoice": invoice.number, "position": line.position}]
    assert (part["quantity"], part["fate"]) == (80, "billed")


def test_the_native_event_is_the_same_text_each_time_and_a_duplicate_when_sent_again(
    billed: Organization,
) -> None:
    _, text = build.make_key(organization=billed)
    now = datetime.now(UTC).isoformat()
    sent = {"id": "again", "source": "s", "occurred_at": now, "model": "m",
            "usage": {"output": 0, "web_search": 2, "input": 5, "input_audio": 3}}  # fmt: skip
    assert Door(text).post(sent).json["accepted"] == 1
    native = stored(billed, "again").as_sent()
    assert native == stored(billed, "again").as_sent()
    assert list(json.loads(native)["usage"]) == ["input", "output", "input_audio", "web_search"]
    assert Door(text).post(native.encode()).json["duplicate"] == 1


def test_a_key_of_one_project_sees_its_own_events_and_no_sum_of_others(
    billed: Organization, database: Database, client: Client
) -> None:
    other = build.make_project(organization=billed, slug="other")
    key, text = build.make_key(organization=billed, scopes=("read",))
    default = billed.projects.get(slug="default")
    ApiKey.objects.filter(pk=key.pk).update(project=default)
    own = Api(client, text)
    place = stored(billed, "req-1").place
    answer = own.get(f"/{place}").json()
    assert [part["quantity"] for one in answer["registers"] for part in one["parts"]] == [
        None,
        None,
    ]
    ApiKey.objects.filter(pk=key.pk).update(project=other)
    assert own.get(f"/{place}").status_code == 404
    assert own.get().json()["events"] == []
    assert own.get(project="default").status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [{"cursor": "x"}, {"cursor": "1-99999"}, {"limit": "101"}, {"batch_id": "-1"}, {"start": "now"},
     {"colour": "red"}, {"fate": "lost"}, {"project": "nowhere"}, {"model": "\0"}],
)  # fmt: skip
def test_a_question_nobody_can_answer_is_refused(api: Api, wrong: dict[str, str]) -> None:
    answer = api.get(**wrong)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_pages_follow_each_other_without_a_gap_or_an_overlap(
    billed: Organization, database: Database, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3, 9, 2):
        send(database, billed, [event(number), event(number + 1)])
    whole = [one["event"]["id"] for one in api.get().json()["events"]]
    assert whole == [f"req-{n}" for n in (8, 7, 6, 5, 4, 3, 2, 1)]

    def walk(**asked: str) -> list[str]:
        ids, cursor = [], None
        for _ in range(20):
            answer = api.get(**asked, **({"cursor": cursor} if cursor else {})).json()
            ids += [one["event"]["id"] for one in answer["events"]]
            if (cursor := answer["next_cursor"]) is None:
                return ids
        raise AssertionError("the pages do not end")

    assert walk(limit="3") == whole
    # However little is looked at for one page, the cursor goes on from there.
    monkeypatch.setattr(found, "EVENTS_LOOKED_AT_MAX", 1)
    monkeypatch.setattr(found, "BATCHES_AT_ONCE", (1,))
    assert walk() == whole
    assert walk(session="run-7") == ["req-1"]
    assert api.get(session="run-7").json()["looked_back_to"] is not None


def test_events_are_found_by_their_fate_and_a_cut_search_says_how_far_it_came(
    billed: Organization, database: Database, api: Api, bob: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    send(database, billed, [event(3), event(4)])
    send(database, billed, [Correction("v", "gateway-1", "req-1", None, None)])
    apply_all()

    def ids(answer: Any) -> list[str]:
        return [one["event"]["id"] for one in answer["events"]]

    by_fate = {fate: ids(api.get(fate=fate).json()) for fate in Fate}
    assert by_fate == {
        "void": ["req-1"], "pending": ["req-4", "req-3"], "billed": ["req-2"], "unpriced": [],
        "free": [],
    }  # fmt: skip
    client = signed_in(bob)
    page = text_of(client, "/o/acme/events/?fate=void")
    assert "req-1" in page
    assert "req-2" not in page
    monkeypatch.setattr(searching, "LOOKED_AT_MAX", 1)
    monkeypatch.setattr(searching, "AT_ONCE", 1)
    first = api.get(fate="billed").json()
    assert (first["events"], first["looked_back_to"] is not None) == ([], True)
    assert "Look further back" in text_of(client, "/o/acme/events/?fate=billed")


def test_the_fates_of_a_period_stand_on_a_page_and_lead_to_their_events(
    billed: Organization, database: Database, bob: User, charlie: User
) -> None:
    send(database, billed, [Correction("v", "gateway-1", "req-1", None, None)])
    send(database, billed, [event(3)])
    apply_all()
    client = signed_in(bob)
    asked = f"/o/acme/events/fates/?period={START.isoformat().replace('+', '%2B')}"
    page = text_of(client, asked)
    assert "It adds up: 3 events, each with one fate" in page
    span = urlencode({"start": START.isoformat(), "end": END.isoformat()})
    link = f"?fate=void&{span}"
    assert link in unescape(client.get(asked).content.decode())
    page = text_of(client, f"/o/acme/events/{link}")
    assert "req-1" in page
    assert "Only what happened from" in page
    assert "0 events, each with one fate" in text_of(client, "/o/acme/events/fates/")
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    staff = signed_in(charlie)
    page = text_of(staff, f"/console/fates/{billed.pk}/{asked.partition('fates/')[2]}")
    assert "3 events, each with one fate" in page
    assert staff.get("/console/fates/999999/").status_code == 404


def test_links_of_a_period_that_begins_within_a_day_lead_to_its_events_and_no_others(
    database: Database, globex: Organization, bob: User, charlie: User
) -> None:
    build.make_member(organization=globex, user=bob, role="viewer")
    noon = START + timedelta(hours=12, minutes=30)
    build.make_subscription(organization=globex, starts_at=noon)
    before, after = noon - timedelta(microseconds=1), noon
    events = [
        make_event(now=at, id=name, occurred_at=at.isoformat())
        for name, at in (("too-early", before), ("in-time", after))
    ]
    send(database, globex, events)
    apply_all()
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    period = urlencode({"period": noon.isoformat()})
    for client, page in (
        (signed_in(bob), f"/o/globex/events/fates/?{period}"),
        (signed_in(charlie), f"/console/fates/{globex.pk}/?{period}"),
    ):
        html = unescape(client.get(page).content.decode())
        (link,) = re.findall(r'href="([^"]*[?&]fate=pending[^"]*)"', html)
        found = text_of(client, link)
        assert "in-time" in found
        assert "too-early" not in found


@pytest.mark.parametrize("start", ["tomorrow", "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"])
def test_an_address_with_no_instant_in_it_is_told_so(
    billed: Organization, bob: User, start: str
) -> None:
    page = text_of(signed_in(bob), "/o/acme/events/?" + urlencode({"start": start}))
    assert "The address names no instants" in page


def test_a_period_of_many_events_is_counted_by_a_worker_while_the_page_looks_again(
    billed: Organization, bob: User, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally_blocks, "BLOCK_EVENTS", 1)
    rung: list[tuple[int, str]] = []
    monkeypatch.setattr(tasks.count_fates, "delay", lambda *which: rung.append(which))
    monkeypatch.setattr(fate_totals, "EVENTS_MAX", 1)
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    pages = [
        (signed_in(bob), "/o/acme/events/fates/?"),
        (signed_in(charlie), f"/console/fates/{billed.pk}/?"),
    ]
    asked = urlencode({"period": START.isoformat()})
    for client, page in pages:
        html = client.get(page + asked).content.decode()
        assert "0 of 2 events are counted" in " ".join(words_in(html).split())
        assert '<meta http-equiv="refresh" content="5">' in html
    assert len(rung) == 2
    monkeypatch.setattr(tasks, "BUSY_S", -1.0)  # one block a turn
    rung = rung[:1]
    while rung:
        tasks.count_fates(*rung.pop())
    for client, page in pages:
        html = client.get(page + asked).content.decode()
        assert "2 events, each with one fate" in words_in(html)
        assert "http-equiv" not in html


def test_an_organization_without_a_tariff_is_told_that_it_has_no_period_yet(
    acme: Organization, bob: User
) -> None:
    assert "No billing period yet" in text_of(signed_in(bob), "/o/acme/events/fates/")


def test_the_console_finds_events_by_their_fate(
    billed: Organization, database: Database, charlie: User
) -> None:
    send(database, billed, [Correction("v", "gateway-1", "req-1", None, None)])
    apply_all()
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    page = text_of(signed_in(charlie), "/console/events/?organization=acme&fate=void")
    assert "req-1" in page
    assert "req-2" not in page
