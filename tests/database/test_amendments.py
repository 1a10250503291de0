"""An amendment puts one event in the place of another, and a chain of them the newest."""

from __future__ import annotations

from typing import Any

import psycopg

from accounts.models import Organization
from tests.corrections import (
    amend,
    detail,
    event,
    said,
    send,
    tokens,
    void,
)
from tests.meter import (
    apply_all,
    database,
    empty_meter,
    readings_of,
)

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]


def test_an_amendment_puts_one_event_in_the_place_of_another(
    database: Database, acme: Organization
) -> None:
    send(database, acme, [event("a", usage={"input": 10}, model="m")])
    stored = send(database, acme, [amend("b", "a", usage={"input": 12}, model="n")])
    assert said(stored) == ["accepted"]
    apply_all()
    rows = [(row[2], row[-2], row[-1]) for row in readings_of(acme) if row[-1]]
    assert rows == [("n", "input", 12), ("n", "requests", 1)]


def test_a_chain_of_amendments_is_followed_along_its_newest_link(
    database: Database, acme: Organization
) -> None:
    send(database, acme, [event("a", usage={"input": 1})])
    send(database, acme, [amend("b", "a", usage={"input": 2})])
    again = send(database, acme, [amend("c", "a", usage={"input": 3})])
    assert said(again) == ["already_voided"]
    assert "'b', which counts in its place" in detail(again)
    assert said(send(database, acme, [amend("c", "b", usage={"input": 3})])) == ["accepted"]
    assert said(send(database, acme, [void("v", "b")])) == ["already_voided"]
    assert said(send(database, acme, [void("v", "c")])) == ["accepted"]
    apply_all()
    assert tokens(acme) == {}
