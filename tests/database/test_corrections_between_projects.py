"""Who reports for one project takes back only what is in it, and is told nothing of another."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from accounts.models import Organization
from metering import backfills, store
from metering.store import Incoming
from tests import build
from tests.conftest import NOW
from tests.corrections import (
    amend,
    detail,
    event,
    opened,
    said,
    send,
    void,
)
from tests.meter import (
    database,
    empty_meter,
)

__all__ = ["database", "empty_meter"]

Database = psycopg.Connection[Any]


def test_a_key_of_one_project_takes_back_only_what_is_in_it(
    database: Database, acme: Organization
) -> None:
    other = build.make_project(organization=acme, slug="other").pk
    send(database, acme, [event("a"), void("v", "a"), event("b")])
    stored = send(database, acme, [void("x", "b"), void("y", "v"), void("z", "a")],
                  own_project_id=other)  # fmt: skip
    assert said(stored) == ["nothing_to_void"] * 3
    own = acme.projects.get(slug="default").pk
    assert said(send(database, acme, [void("x", "b")], own_project_id=own)) == ["accepted"]


def test_what_became_of_another_projects_event_is_told_to_nobody_else(
    database: Database, acme: Organization
) -> None:
    other = build.make_project(organization=acme, slug="other").pk
    send(database, acme, [event("a"), amend("not-yours", "a"), event("b"), void("nor-this", "b")])
    sent = [Incoming(0, event("a"), other), Incoming(1, event("b"), other)]
    stored = store.store(database, acme.pk, 1, sent)
    assert said(stored) == ["conflict"] * 2
    for index in range(2):
        assert "with other content: project. The first one stands." in detail(stored, index)
        assert not any(
            word in detail(stored, index) for word in ("not-yours", "nor-this", "It was")
        )
    again = send(database, acme, [event("a"), event("b")])
    assert "by 'not-yours'" in detail(again)
    assert "by 'nor-this'" in detail(again, 1)


def test_another_project_cannot_tell_a_corrected_event_from_one_that_nothing_happened_to(
    database: Database, acme: Organization
) -> None:
    """Whatever stands under an id: the words are those for an event that was only accepted."""
    other = build.make_project(organization=acme, slug="other").pk
    send(database, acme, [event("plain"), event("a"), event("b"), void("v", "a"), amend("w", "b")])
    number = opened(acme)
    send(database, acme, [event("reverted")], backfill_id=number)
    backfills.revert(acme, number, now=NOW)
    ids = ["plain", "a", "b", "v", "w", "reverted"]
    sent = [Incoming(ordinal, event(one), other) for ordinal, one in enumerate(ids)]
    stored = store.store(database, acme.pk, 1, sent)
    assert said(stored) == ["conflict"] * len(ids)
    assert len({without_moments(detail(stored, index)) for index in range(len(ids))}) == 1
    assert "other content: project" in detail(stored)

    own = store.store(database, acme.pk, 1, [Incoming(0, event("mine"), other)])
    assert said(own) == ["accepted"]
    taking = send(database, acme, [void(one, "mine") for one in ids], own_project_id=other)
    assert said(taking) == ["conflict"] * len(ids)
    assert len({detail(taking, index) for index in range(len(ids))}) == 1


def without_moments(sentence: str) -> str:
    return re.sub(r"[0-9-]+T[0-9:.]+Z", "then", sentence)


def test_a_key_of_one_project_is_told_what_became_of_its_own_events(
    database: Database, acme: Organization
) -> None:
    own = acme.projects.get(slug="default").pk
    send(database, acme, [event("a"), void("v", "a")])
    again = send(database, acme, [void("v", "a"), void("x", "v"), event("v")], own_project_id=own)
    assert said(again) == ["duplicate", "void_is_final", "conflict"]
    assert "a void has this source and id" in detail(again, 2).lower()
