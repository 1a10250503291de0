"""Negotiated terms: worked to the cent, and what does not fit is refused at its field."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from billing.rating import scope
from billing.rating.bill import bill
from billing.rating.charge import Facts
from billing.rating.document import TariffInvalid
from billing.rating.negotiated import Agreement, is_negotiated, merged, parse_agreement
from billing.rating.rate import RatedLine, rate, sentences
from tests.pure.tariffs import BEIJING, MTOK, component, factor, terms, used, whole

LISTED = terms(
    component("input", price="2.40"),
    component("output", price="12.00"),
    modifiers=[factor("batch", "service_class", "0.5", service_classes=["batch"])],
)
FULL = {
    "components": [component("ours", price="1.80", registers=["input"])],
    "discounts": [{"code": "all", "models": ["qwen-*"], "percent": "12.50"}],
    "allowances": [
        {"code": "pilot", "tokens": 4, "models": ["*"], "registers": ["input"], "once": True}
    ],
    "charges": [{"code": "year", "kind": "commitment", "amount": "12000"}],
}
REFUSED = [
    ({"currency": "USD"}, "/currency"),
    ({"components": []}, "/components"),
    ({"components": [component("a", price="-1")]}, "/components/0/price"),
    ({"components": [component("a", price="NaN")]}, "/components/0/price"),
    ({"components": [component("a", price=-1)]}, "/components/0/price"),
    ({"components": [component("a", price="1")] * 2}, "/components/1/code"),
    ({"discounts": [{"code": "a", "percent": "0"}]}, "/discounts/0/percent"),
    ({"discounts": [{"code": "a", "percent": "100.1"}]}, "/discounts/0/percent"),
    ({"discounts": [{"code": "a", "percent": "1.00001"}]}, "/discounts/0/percent"),
    ({"discounts": [{"code": "a", "percent": 10}]}, "/discounts/0/percent"),
    ({"discounts": [{"code": "a" * 61, "percent": "1"}]}, "/discounts/0/code"),
    ({"charges": [{"code": "a", "kind": "gift", "amount": "1"}]}, "/charges/0/kind"),
]


def rated(document: dict[str, Any], *usage: Any) -> list[RatedLine]:
    return rate(list(usage), whole(merged(LISTED, parse_agreement(document))))


def amounts(lines: list[RatedLine]) -> dict[str, Decimal]:
    return {line.component: line.amount for line in lines}


def test_an_agreed_price_goes_before_the_listed_one() -> None:
    document = {"components": [component("ours", price="1.80", models=["m"], registers=["input"])]}
    lines = rated(document, used(3 * MTOK), used(MTOK, "output"), used(MTOK, model="other"))
    assert [(line.component, line.model, line.amount) for line in lines] == [
        ("negotiated:ours", "m", Decimal("5.40")),
        ("input", "other", Decimal("2.40")),
        ("output", "m", Decimal(12)),
    ]


def test_a_discount_takes_its_percentage_off_the_listed_price() -> None:
    document = {"discounts": [{"code": "volume", "percent": "12.5", "registers": ["input"]}]}
    lines = rated(document, used(MTOK), used(MTOK, "output"))
    assert amounts(lines) == {"input": Decimal("2.1"), "output": Decimal(12)}
    assert [is_negotiated(line.trace) for line in lines] == [True, False]
    assert "The price is 2.40 USD x 0.875 (negotiated:volume)." in sentences(lines[0], "USD")


def test_an_agreed_price_is_net_of_the_agreed_discount() -> None:
    document = {
        "components": [component("ours", price="1.80", registers=["input"])],
        "discounts": [{"code": "all", "percent": "50"}],
    }
    lines = rated(document, used(MTOK), used(MTOK, "output"))
    assert amounts(lines) == {"negotiated:ours": Decimal("1.80"), "output": Decimal(6)}


def test_a_service_class_still_counts_on_an_agreed_price() -> None:
    document = {"components": [component("ours", price="1.80", registers=["input"])]}
    (line,) = rated(document, used(MTOK, service_class="batch"))
    assert line.amount == Decimal("0.9")


def test_agreed_tokens_are_free_and_say_so() -> None:
    free = {"code": "pilot", "tokens": 400_000, "models": ["*"], "registers": ["input"]}
    lines = rated({"allowances": [free]}, used(MTOK))
    assert amounts(lines) == {"allowance:negotiated:pilot": 0, "input": Decimal("1.44")}


def test_an_agreed_minimum_tops_up_what_the_usage_comes_to() -> None:
    document = {"charges": [{"code": "year", "kind": "minimum", "amount": "10.00"}]}
    of = whole(merged(LISTED, parse_agreement(document)))
    found = bill([used(MTOK)], of, Facts(ZoneInfo("UTC")))
    assert [(paper.lines[0].component, paper.minor) for paper in found.paper] == [
        ("input", 240),
        ("negotiated:year", 760),
    ]


def test_a_line_says_that_its_price_was_negotiated() -> None:
    document = {"components": [component("ours", price="1.80", registers=["input"])]}
    (line,) = rated(document, used(MTOK))
    assert line.trace["negotiated"] is True
    assert "The price is one you negotiated; the listed price does not apply." in sentences(
        line, "USD"
    )


def test_an_empty_agreement_leaves_the_tariff_as_it_is() -> None:
    assert parse_agreement({}) == Agreement()
    assert merged(LISTED, Agreement()) == LISTED


def test_an_agreement_reads_back() -> None:
    agreement = parse_agreement(FULL)
    assert agreement.as_document() == FULL
    assert parse_agreement(agreement.as_document()) == agreement


@pytest.mark.parametrize(("document", "pointer"), REFUSED)
def test_a_fault_is_refused_at_its_field(document: dict[str, Any], pointer: str) -> None:
    with pytest.raises(TariffInvalid) as refused:
        parse_agreement(document)
    assert refused.value.pointer == pointer


def test_agreed_prices_by_time_of_use_need_the_tariff_to_have_a_calendar() -> None:
    agreement = parse_agreement(
        {"components": [component("ours", prices={"peak": "2", "off_peak": "1"})]}
    )
    with pytest.raises(TariffInvalid) as refused:
        merged(LISTED, agreement)
    assert refused.value.pointer == "/components/0/shape"
    timed = terms(component("input", price="1"), calendar=BEIJING)
    assert merged(timed, agreement).components[0].negotiated


@given(st.integers(1, 1_000_000), st.integers(0, 10**12))
def test_a_discount_and_what_is_paid_are_the_listed_price(parts: int, tokens: int) -> None:
    percent = f"{Decimal(parts).scaleb(-4)}"
    (line,) = rated({"discounts": [{"code": "d", "percent": percent}]}, used(tokens + 1))
    off = Decimal("2.40") * Decimal(percent) / 100
    assert line.unit_price + off == Decimal("2.40")


FOLDER = Path(scope.__file__).parent
TARIFF, NEGOTIATED = (
    json.loads((FOLDER / f"{name}.schema.json").read_text()) for name in ("tariff", "negotiated")
)
KNOWN = Registry().with_resource(TARIFF["$id"], Resource.from_contents(TARIFF))
VALID = Draft202012Validator(NEGOTIATED, registry=KNOWN)


@pytest.mark.parametrize("document", [{}, FULL])
def test_the_schema_takes_what_the_parser_takes(document: dict[str, Any]) -> None:
    assert list(VALID.iter_errors(document)) == []


@pytest.mark.parametrize(("document", "pointer"), REFUSED)
def test_the_schema_refuses_what_the_parser_refuses(document: dict[str, Any], pointer: str) -> None:
    beyond = {"/components/1/code", "/discounts/0/percent"}  # repeats, and bounds of a decimal
    assert pointer in beyond or list(VALID.iter_errors(document))


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "negotiated.md"


def test_the_example_of_the_reference_is_rated_as_it_says() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    listed = terms(component("input", price="0.40"), component("output", price="1.20"))
    of = whole(merged(listed, parse_agreement(json.loads(example))))
    usage = [used(100 * MTOK, model="qwen-plus"), used(50 * MTOK, "output", model="qwen-plus")]
    found = bill(usage, of, Facts(ZoneInfo("UTC")))
    assert [paper.minor for paper in found.paper] == [4500, 3200, 2300]
    (other,) = rate([used(MTOK, "output", model="other")], of)
    assert other.amount == Decimal("1.20")
