"""The examples of docs/reference/tariff.md are rated as they stand there."""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from billing.rating.bill import bill
from billing.rating.calendar import HOLIDAYS_MAX, RULES_MAX, WINDOWS_MAX
from billing.rating.charge import CHARGES_MAX, Facts
from billing.rating.charges import CHARGES
from billing.rating.difference import still_owed
from billing.rating.graduated import STEPS_MAX
from billing.rating.modifier import MODIFIERS_MAX
from billing.rating.peak_event import EVENTS_MAX
from billing.rating.price_series import INTERVALS_MAX
from billing.rating.rate import RatedLine, Usage, rate
from billing.rating.season import SEASONS_MAX
from billing.rating.tariff import (
    ALLOWANCES_MAX,
    COMPONENTS_MAX,
    MODELS_MAX,
    NAMES_MAX,
    SHAPES,
    parse,
)
from tests.pure.tables import at
from tests.pure.tariffs import costs, used, whole

AT_THE_END = "end of period"
PEAK = at("2026-09-24T12:00")
FACTS = Facts(
    zone=ZoneInfo("UTC"),
    load={"key": {PEAK + timedelta(minutes=n): 640_000 for n in range(15)}},
    peaks_before={"peak": [980_000]},
    provider_cost_micros={"gpt-5": 12_345_678},
    occupancy=Decimal("0.85"),
    spent_before_minor={"year": 1_000_000},
    terms_ending=frozenset({"year"}),
)
PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/tariff.md").read_text()
EXAMPLE = re.compile(r"```json\n(.*?)```.*?\n\| used from.*?\n\|[-|]+\n(.*?)\n\n", re.DOTALL)


def examples() -> list[Any]:
    found = []
    for document, table in EXAMPLE.findall(PAGE):
        cells = [
            [cell.strip(" *") for cell in row.strip("|").split("|")] for row in table.splitlines()
        ]
        found.append((json.loads(document), cells[:-1], cells[-1][-1]))
    return found


def usage_of(on: str, model: str, register: str, quantity: str) -> Usage:
    """Return a row's usage: `input (above 32,000)`, `output (thinking)`, `cache_read (batch)`."""
    register, _, sort = register.rstrip(")").partition(" (")
    item = used(int(quantity.replace(",", "")), register, on=on, model=model)
    if sort.startswith("above "):
        return replace(item, input_band=int(sort.removeprefix("above ").replace(",", "")))
    if sort == "thinking":
        return replace(item, thinking=True)
    if sort in ("media_input", "audio_output"):
        return replace(item, attributes=(sort,))
    return replace(item, service_class=sort or item.service_class)


def as_written(lines: Iterable[RatedLine]) -> str:
    return " and ".join(f"{line.quantity:,} @ {line.unit_price}" for line in lines)


def test_each_shape_has_an_example() -> None:
    shapes = {part["shape"] for document, *_ in examples() for part in document["components"]}
    assert shapes == SHAPES.keys()
    assert PAGE.count("```json") == len(examples())


@pytest.mark.parametrize(("document", "cells", "together"), examples())
def test_an_example_comes_out_as_written(
    document: dict[str, Any], cells: list[list[str]], together: str
) -> None:
    stretches = whole(parse(document))
    used_rows = [row for row in cells if row[0] != AT_THE_END]
    usage = [usage_of(*row[:4]) for row in used_rows]
    found = bill(usage, stretches, FACTS).lines
    assert costs(found) == Decimal(together)
    assert sum(Decimal(amount) for *_, amount in cells) == Decimal(together)
    for number, (*_, lines, amount) in enumerate(used_rows):
        before = rate(usage[:number], stretches)
        added = still_owed(rate(usage[: number + 1], stretches), before)
        assert as_written(added) == lines
        assert costs(added) == Decimal(amount)
    for _, _, code, _, lines, amount in cells[len(used_rows) :]:
        charged = [line for line in found if line.component == code]
        assert as_written(charged) == lines
        assert costs(charged) == Decimal(amount)


def test_each_kind_of_charge_has_an_example() -> None:
    kinds = [
        charge["kind"] for document, *_ in examples() for charge in document.get("charges", [])
    ]
    assert set(kinds) == CHARGES.keys()


def test_every_field_of_a_charge_is_named() -> None:
    for kind in CHARGES.values():
        for name in kind.REQUIRED | kind.OPTIONAL:
            assert f"`{name}`" in PAGE, (kind.KIND, name)


@pytest.mark.parametrize(("document", "cells", "together"), examples())
def test_an_example_comes_back_from_its_terms(
    document: dict[str, Any], cells: object, together: str
) -> None:
    terms = parse(document)
    assert parse(json.loads(json.dumps(terms.as_document()))) == terms


def test_the_limits_are_those_of_the_code() -> None:
    limits = (
        f"{COMPONENTS_MAX:,} components, {ALLOWANCES_MAX} allowances, {MODELS_MAX} models and "
        f"{NAMES_MAX} registers, regions or classes each, {STEPS_MAX} steps, {RULES_MAX} rules, "
        f"{WINDOWS_MAX} windows, {HOLIDAYS_MAX:,} holidays, {SEASONS_MAX} seasons, "
        f"{EVENTS_MAX} events, {MODIFIERS_MAX} modifiers, {INTERVALS_MAX:,} prices of a series, "
        f"{CHARGES_MAX} charges"
    )
    assert limits in PAGE.replace("\n", " ")
