"""What changes between two documents, and which changes are jumps."""

from typing import Any

import pytest

from billing.rating.changes import changes
from billing.rating.jumps import LOOKS_MAX, jumps
from billing.rating.tariff import parse
from tests.pure.tariffs import BEIJING, component, factor, steps, terms, tiers

FACTOR = 10
OUTPUT = "models *, registers output, shape flat, per 1,000,000, price 3"
LISTED = terms(
    component("input", price="0.40", models=["qwen-*"]),
    component("output", steps=steps((0, "2.00"), (100_000_000, "1.60")), models=["qwen-*"]),
)


def said(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The sentences, of documents as their parser writes them."""
    return [
        change.sentence
        for change in changes(parse(before).as_document(), parse(after).as_document())
    ]


def document(*components: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"currency": "USD", **fields, "components": list(components)}


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            document(component("input", price="0.40")),
            document(component("input", price="0.50")),
            "component input, price: 0.40 becomes 0.50 (+25.0%).",
        ),
        (
            document(component("input", price="3")),
            document(component("input", price="2")),
            "component input, price: 3 becomes 2 (-33.3%).",
        ),
        (
            document(component("output", steps=steps((0, "2.00"), (100, "1.60")))),
            document(component("output", steps=steps((0, "2.00"), (100, "1.20")))),
            "component output, price (from 100): 1.60 becomes 1.20 (-25.0%).",
        ),
        (
            document(component("output", tiers=tiers((0, "6"), (32_000, "12")))),
            document(component("output", tiers=tiers((0, "6"), (32_000, "15")))),
            "component output, price (above 32,000): 12 becomes 15 (+25.0%).",
        ),
        (
            document(component("input", prices={"peak": "2", "off_peak": "1"}), calendar=BEIJING),
            document(component("input", prices={"peak": "3", "off_peak": "1"}), calendar=BEIJING),
            "component input, peak (prices): 2 becomes 3 (+50.0%).",
        ),
        (
            document(component("input", price="1", models=["a", "b"])),
            document(component("input", price="1", models=["b", "c"])),
            "component input, models: c added and a removed.",
        ),
        (
            document(component("input", price="1")),
            document(component("input", price="1"), component("output", price="3")),
            f"component output is new: {OUTPUT}.",
        ),
        (
            document(component("input", price="1"), component("output", price="3")),
            document(component("input", price="1")),
            f"component output is gone: {OUTPUT}.",
        ),
        (
            document(component("a", price="1"), component("b", price="3")),
            document(component("b", price="3"), component("a", price="1")),
            "components, order: a > b becomes b > a.",
        ),
        (
            document(component("input", prices={"peak": "2", "off_peak": "1"}), calendar=BEIJING),
            document(
                component("input", prices={"peak": "2", "off_peak": "1"}),
                calendar={**BEIJING, "holidays": ["2026-09-25", "2026-09-26", "2026-10-01"]},
            ),
            "calendar, holidays: 2026-10-01 added and 2026-09-27 removed.",
        ),
    ],
)
def test_a_change_is_one_sentence_with_every_number(
    before: dict[str, Any], after: dict[str, Any], sentence: str
) -> None:
    assert said(before, after) == [sentence]


def test_windows_are_told_bucket_by_bucket() -> None:
    rule = {**BEIJING["rules"][0], "windows": [["10:00", "12:00"], ["14:00", "18:00"]]}
    priced = component("input", prices={"peak": "2", "off_peak": "1"})
    assert said(
        document(priced, calendar=BEIJING),
        document(priced, calendar={**BEIJING, "rules": [rule]}),
    ) == ["calendar, windows (rules, bucket peak): 10:00-12:00 added and 09:00-12:00 removed."]


def test_what_means_the_same_is_no_change() -> None:
    before = document(component("input", price="0.40"))
    assert said(before, document(component("input", price="0.4"))) == []


def test_the_percentage_is_of_one_unit_whatever_the_price_is_per() -> None:
    before = parse(document(component("input", price="0.002", per=1_000))).as_document()
    after = parse(document(component("input", price="2.2"))).as_document()
    price = next(one for one in changes(before, after) if one.field == "price")
    assert str(price.percent) == "10.0"
    assert price.pointer == "/components/0/price"


def test_a_pointer_leads_to_the_field_in_the_document_it_stands_in() -> None:
    before = document(component("a", price="1"), component("b", price="1"))
    after = document(component("b", price="2"))
    found = changes(before, after)
    assert [(one.kind, one.pointer) for one in found] == [
        ("changed", "/components/0/price"),
        ("removed", "/components/0"),
    ]


# jumps


def rules(after: Any, before: Any = LISTED) -> list[tuple[str, str]]:
    return [(jump.rule, jump.subject) for jump in jumps(before, after, FACTOR)]


def relisted(price: str, **fields: Any) -> Any:
    return terms(
        component("input", price=price, models=["qwen-*"], **fields),
        component("output", steps=steps((0, "2.00"), (100_000_000, "1.60")), models=["qwen-*"]),
    )


@pytest.mark.parametrize(
    ("price", "rule"),
    [("4.00", None), ("4.01", "rise"), ("0.04", None), ("0.039", "fall"), ("0", "zero")],
)
def test_a_price_may_move_ten_times_and_no_further(price: str, rule: str | None) -> None:
    assert rules(relisted(price)) == ([(rule, "input of qwen-")] if rule else [])


def test_another_unit_is_a_jump_even_at_the_same_price() -> None:
    assert rules(relisted("0.0004", per=1_000)) == [("unit", "input of qwen-")]


def test_another_currency_is_a_jump() -> None:
    assert rules(terms(component("input", price="1"), currency="EUR")) == [
        ("currency", "the currency")
    ]


def test_a_step_far_up_is_looked_at_by_itself() -> None:
    after = terms(
        component("input", price="0.40", models=["qwen-*"]),
        component("output", steps=steps((0, "2.00"), (100_000_000, "0.10")), models=["qwen-*"]),
    )
    assert rules(after) == [("fall", "output of qwen-")]


def test_another_code_does_not_hide_a_jump() -> None:
    after = terms(
        component("renamed", price="40", models=["qwen-*"], registers=["input"]),
        component("output", steps=steps((0, "2.00"), (100_000_000, "1.60")), models=["qwen-*"]),
    )
    assert rules(after) == [("rise", "input of qwen-")]


def test_a_component_put_before_the_others_does_not_hide_a_jump() -> None:
    after = terms(
        component("first", price="0.01", models=["qwen-plus"], registers=["input"]),
        *(one.as_document() for one in LISTED.components),
    )
    assert rules(after) == [("fall", "input of qwen-plus")]


def test_a_discount_that_gives_everything_away_is_a_jump() -> None:
    after = terms(
        *(one.as_document() for one in LISTED.components),
        modifiers=[factor("gift", "negotiated", "0.05")],
    )
    assert set(rules(after)) == {("fall", "input of qwen-"), ("fall", "output of qwen-")}


def test_a_discount_for_one_class_is_found_where_no_component_names_it() -> None:
    after = terms(
        *(one.as_document() for one in LISTED.components),
        modifiers=[factor("batch", "service_class", "0", service_classes=["batch"])],
    )
    assert ("zero", "input of qwen- (batch)") in rules(after)


def test_what_loses_its_price_is_a_jump_and_what_gains_one_is_none() -> None:
    more = terms(
        *(one.as_document() for one in LISTED.components),
        component("kimi", price="9", models=["kimi-k2"], registers=["input"]),
    )
    assert rules(more) == []
    assert rules(LISTED, before=more) == [("unpriced", "input of kimi-k2")]


def test_new_free_tokens_and_other_charges_are_jumps() -> None:
    components = [one.as_document() for one in LISTED.components]
    free = {"code": "free", "tokens": 5, "models": ["*"], "registers": ["input"]}
    fee = {"code": "wire", "kind": "fee", "price": "0.30"}
    before = terms(*components, allowances=[free], charges=[fee])
    assert rules(before) == [("allowance", "allowance free"), ("charge", "charge wire")]
    more = terms(*components, allowances=[{**free, "tokens": 51}], charges=[{**fee, "price": "4"}])
    assert rules(more, before) == [("allowance", "allowance free"), ("charge", "charge wire")]
    little = terms(
        *components, allowances=[{**free, "tokens": 50}], charges=[{**fee, "price": "3"}]
    )
    assert rules(little, before) == []


def test_what_is_too_large_to_compare_takes_a_second_person() -> None:
    models = [f"m{number}" for number in range(200)]
    many = [
        component(f"c{number}", price="1", models=models, registers=["input"])
        for number in range(200)
    ]
    registers = [f"r{number}" for number in range(50)]
    wide = terms(*many, component("wide", price="1", models=models, registers=registers))
    assert LOOKS_MAX < 200 * 51 * 201 * 2
    assert rules(wide, before=wide) == [("too_large", "the document")]
