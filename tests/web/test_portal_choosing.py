"""The way in: where a person lands, and what a first organization may be put on."""

from __future__ import annotations

from datetime import datetime

from django.test import Client

from accounts.models import Organization, User
from billing import catalog
from tests import build


def test_whoever_has_one_organization_goes_straight_in(
    client: Client, acme: Organization, alice: User
) -> None:
    client.force_login(alice)
    assert client.get("/")["Location"] == "/o/acme/"


def test_whoever_has_several_chooses(
    client: Client, acme: Organization, globex: Organization, alice: User
) -> None:
    build.make_member(organization=globex, user=alice, role="viewer")
    client.force_login(alice)
    page = client.get("/").content.decode()
    assert "/o/acme/" in page
    assert "/o/globex/" in page


def test_a_customer_without_an_organization_makes_one(client: Client, charlie: User) -> None:
    client.force_login(charlie)
    assert client.get("/")["Location"] == "/new/"


def test_an_operator_goes_to_the_console(client: Client, charlie: User) -> None:
    charlie.is_staff = True
    charlie.save(update_fields=["is_staff"])
    client.force_login(charlie)
    assert client.get("/")["Location"] == "/console/"


def test_a_tariff_says_its_currency_once(client: Client, charlie: User, now: datetime) -> None:
    catalog.ensure_presets(now)
    client.force_login(charlie)
    page = client.get("/new/").content.decode()
    assert "(USD)" in page
    assert "(USD) (USD)" not in page


def test_a_key_offers_only_scopes_whose_doors_stand(
    client: Client, acme: Organization, alice: User
) -> None:
    client.force_login(alice)
    page = client.get("/o/acme/keys/").content.decode()
    offered = {
        scope for scope in ("ingest", "read", "gateway", "manage") if f'value="{scope}"' in page
    }
    assert offered == {"ingest", "read", "manage"}
