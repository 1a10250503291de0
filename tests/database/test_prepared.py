"""Statements that the server plans once for each connection."""

from __future__ import annotations

import pytest
from django.db import DataError

from accounts import prepared
from accounts.prepared import Columns
from billing.models import TariffVersion
from tests import build

pytestmark = pytest.mark.django_db

ADD = "SELECT %s::integer + 1"
PLANNED = "SELECT count(*) FROM pg_prepared_statements WHERE statement = %s"


def test_a_statement_is_planned_once_for_a_connection() -> None:
    assert [prepared.rows(ADD, [number]) for number in range(8)] == [
        [(number + 1,)] for number in range(8)
    ]
    ((planned,),) = prepared.rows(PLANNED, [ADD.replace("%s", "$1")])
    assert planned == 1


def test_what_the_server_refuses_is_the_error_that_query_sets_raise() -> None:
    with pytest.raises(DataError):
        prepared.rows("SELECT 1 / %s::integer", [0])


def test_a_field_that_is_left_out_is_fetched_when_it_is_asked_for() -> None:
    tariff = build.make_tariff()
    columns = Columns(TariffVersion, "version", without=["document"])
    (row,) = prepared.rows(
        f"SELECT {columns.text} FROM billing_tariffversion version WHERE tariff_id = %s",
        [tariff.pk],
    )
    version = columns.instance(row)
    assert version == tariff.versions.get()
    assert version.document == tariff.versions.get().document


def test_a_field_that_rows_hold_unconverted_is_no_column() -> None:
    with pytest.raises(AssertionError, match="document"):
        Columns(TariffVersion, "version")
