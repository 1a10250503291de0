"""A tariff document is understood to the last field, or refused at the field that is wrong."""

import json
from copy import deepcopy
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from billing.rating.calendar import WEEK, TouCalendar, TouRule, Window
from billing.rating.flat import Flat
from billing.rating.graduated import Graduated, Step
from billing.rating.shape import Portion, Position
from billing.rating.tariff import Allowance, RateComponent, TariffInvalid, Terms, matching, parse
from billing.rating.time_of_use import TimeOfUse
from tests.pure.tables import rows

DOCUMENT: dict[str, Any] = {
    "currency": "USD",
    "calendar": {
        "zone": "Asia/Shanghai",
        "default": "off_peak",
        "rules": [
            {
                "bucket": "peak",
                "days": ["mon", "tue", "wed", "thu", "fri"],
                "except": ["holiday"],
                "windows": [["09:00", "12:00"], ["14:00", "18:00"]],
            }
        ],
    },
    "allowances": [
        {"code": "welcome", "tokens": 1_000_000, "models": ["*"], "registers": ["input", "output"]}
    ],
    "components": [
        {
            "code": "plus-input",
            "models": ["qwen-plus"],
            "registers": ["input"],
            "regions": ["cn"],
            "service_classes": ["standard", "flex"],
            "shape": "flat",
            "per": 1_000_000,
            "price": "0.40",
        },
        {
            "code": "output",
            "models": ["qwen-*"],
            "registers": ["output", "reasoning"],
            "shape": "graduated",
            "per": 1_000,
            "steps": [{"from": 0, "price": "3.00"}, {"from": 1_000_000_000, "price": "2.5"}],
        },
        {
            "code": "pro",
            "models": ["pro"],
            "registers": ["input"],
            "shape": "time_of_use",
            "per": 1,
            "prices": {"peak": "1.32", "off_peak": "0.66"},
        },
    ],
}
TERMS = Terms(
    currency="USD",
    calendar=TouCalendar(
        ZoneInfo("Asia/Shanghai"),
        "off_peak",
        (TouRule("peak", WEEK[:5], (Window(540, 720), Window(840, 1080)), except_holidays=True),),
    ),
    allowances=(Allowance("welcome", 1_000_000, ("*",), ("input", "output")),),
    components=(
        RateComponent(
            "plus-input",
            ("qwen-plus",),
            ("input",),
            Flat(Decimal("0.4"), 1_000_000),
            ("cn",),
            ("standard", "flex"),
        ),
        RateComponent(
            "output",
            ("qwen-*",),
            ("output", "reasoning"),
            Graduated((Step(0, Decimal(3)), Step(1_000_000_000, Decimal("2.5"))), 1_000),
        ),
        RateComponent(
            "pro",
            ("pro",),
            ("input",),
            TimeOfUse((("off_peak", Decimal("0.66")), ("peak", Decimal("1.32"))), 1),
        ),
    ),
)

# `pointer` is set to the value, or removed where there is none; `refused at` is where we point.
REFUSED = """
pointer                          | value                    | refused at
/currency                        |                          | /currency
/currency                        | "usd"                    | /currency
/currency                        | "ABC"                    | /currency
/currency                        | null                     | /currency
/components                      |                          | /components
/components                      | []                       | /components
/components                      | {}                       | /components
/components/1                    | "free"                   | /components/1
/calendar                        |                          | /components/2/shape
/calendar/rules/0/bucket         | "shoulder"               | /components/2/prices
/valid_from                      | "2026-01-01"             | /valid_from
/a~1b                            | 1                        | /a~1b
/components/0/code               |                          | /components/0/code
/components/0/code               | ""                       | /components/0/code
/components/0/code               | "allowance:x"            | /components/0/code
/components/0/code               | "unpriced"               | /components/0/code
/components/2/code               | "output"                 | /components/2/code
/components/0/models             | "qwen-plus"              | /components/0/models
/components/0/models             | []                       | /components/0/models
/components/0/models/0           | "*-plus"                 | /components/0/models/0
/components/0/models/0           | "qwen plus"              | /components/0/models/0
/components/0/registers/0        | "Input"                  | /components/0/registers/0
/components/1/registers/1        | "output"                 | /components/1/registers/1
/components/1/registers/1        | "requests"               | /components/1/registers
/components/0/regions            | []                       | /components/0/regions
/components/0/service_classes/0  | "*"                      | /components/0/service_classes/0
/components/0/shape              |                          | /components/0/shape
/components/0/shape              | "tiered"                 | /components/0/shape
/components/0/shape              | ["flat"]                 | /components/0/shape
/components/0/shape              | "graduated"              | /components/0/price
/components/0/per                |                          | /components/0/per
/components/0/per                | 0                        | /components/0/per
/components/0/per                | -1                       | /components/0/per
/components/0/per                | 3                        | /components/0/per
/components/0/per                | 10000000                 | /components/0/per
/components/0/per                | true                     | /components/0/per
/components/0/per                | 1000000.0                | /components/0/per
/components/0/price              |                          | /components/0/price
/components/0/price              | 0.4                      | /components/0/price
/components/0/price              | 1                        | /components/0/price
/components/0/price              | -1                       | /components/0/price
/components/0/price              | "-1"                     | /components/0/price
/components/0/price              | "-0.40"                  | /components/0/price
/components/0/price              | "+0.40"                  | /components/0/price
/components/0/price              | NaN                      | /components/0/price
/components/0/price              | "NaN"                    | /components/0/price
/components/0/price              | "Infinity"               | /components/0/price
/components/0/price              | "4e-1"                   | /components/0/price
/components/0/price              | ".40"                    | /components/0/price
/components/0/price              | "1_000"                  | /components/0/price
/components/0/price              | "0,40"                   | /components/0/price
/components/0/price              | "٠.٤"                    | /components/0/price
/components/0/price              | " 0.40"                  | /components/0/price
/components/0/price              | "0.40\\n"                 | /components/0/price
/components/0/price              | "0.0000000000001"        | /components/0/price
/components/0/price              | "1000000000000"          | /components/0/price
/components/0/price              | null                     | /components/0/price
/components/1/steps              | []                       | /components/1/steps
/components/1/steps/0/from       | 1                        | /components/1/steps/0/from
/components/1/steps/1/from       | 0                        | /components/1/steps/1/from
/components/1/steps/1/from       | 1e9                      | /components/1/steps/1/from
/components/1/steps/1/from       | "1000000000"             | /components/1/steps/1/from
/components/1/steps/1/price      | -1                       | /components/1/steps/1/price
/components/1/steps/1/to         | 5                        | /components/1/steps/1/to
/components/2/prices             | {}                       | /components/2/prices
/components/2/prices             | "1.32"                   | /components/2/prices
/components/2/prices/peak        |                          | /components/2/prices
/components/2/prices/peak        | 1.32                     | /components/2/prices/peak
/components/2/prices/shoulder    | "1"                      | /components/2/prices/shoulder
/components/2/prices/Night       | "1"                      | /components/2/prices/Night
/allowances                      | []                       | /allowances
/allowances/0/tokens             | 0                        | /allowances/0/tokens
/allowances/0/tokens             | -1                       | /allowances/0/tokens
/allowances/0/tokens             | 1.5                      | /allowances/0/tokens
/allowances/0/registers/1        | "requests"               | /allowances/0/registers
/allowances/0/expires            | "never"                  | /allowances/0/expires
"""


def changed(pointer: str, value: str) -> dict[str, Any]:
    """Return the document with one field set, or removed."""
    document = deepcopy(DOCUMENT)
    *path, last = [part.replace("~1", "/") for part in pointer.split("/")[1:]]
    place: Any = document
    for part in path:
        place = place[int(part) if isinstance(place, list) else part]
    key: Any = int(last) if isinstance(place, list) else last
    if value:
        place[key] = json.loads(value)
    else:
        del place[key]
    return document


def test_a_document_becomes_terms() -> None:
    assert parse(DOCUMENT) == TERMS


def test_terms_become_the_document_again() -> None:
    assert TERMS.as_document() == DOCUMENT | {
        "components": [
            DOCUMENT["components"][0] | {"price": "0.4"},
            DOCUMENT["components"][1]
            | {"steps": [{"from": 0, "price": "3"}, {"from": 1_000_000_000, "price": "2.5"}]},
            DOCUMENT["components"][2],
        ]
    }
    assert parse(DOCUMENT).as_document() == DOCUMENT  # as written, its zeros included
    assert parse(json.loads(json.dumps(TERMS.as_document()))) == TERMS


def test_the_order_of_names_says_nothing() -> None:
    """PostgreSQL's jsonb keeps the names of an object in an order of its own."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turned(value[name]) for name in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert parse(turned(DOCUMENT)) == TERMS


@pytest.mark.parametrize(("pointer", "value", "refused_at"), rows(REFUSED))
def test_a_document_with_a_fault_is_refused_at_the_field(
    pointer: str, value: str, refused_at: str
) -> None:
    with pytest.raises(TariffInvalid) as refusal:
        parse(changed(pointer, value))
    assert refusal.value.pointer == refused_at
    assert str(refusal.value) == f"{refused_at}: {refusal.value.detail}"


@pytest.mark.parametrize("document", [[], "USD", None, 1])
def test_what_is_no_object_is_refused_as_a_whole(document: Any) -> None:
    with pytest.raises(TariffInvalid, match="the document: must be an object") as refusal:
        parse(document)
    assert refusal.value.pointer == ""


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(TariffInvalid, match="text for names"):
        parse(DOCUMENT | {1: "one"})  # type: ignore[dict-item]


def test_codes_are_given_once() -> None:
    twice = DOCUMENT | {"allowances": DOCUMENT["allowances"] * 2}
    with pytest.raises(TariffInvalid) as refusal:
        parse(twice)
    assert refusal.value.pointer == "/allowances/1/code"


def test_a_list_has_an_end() -> None:
    endless = changed("/components/0/models", json.dumps([f"m{number}" for number in range(201)]))
    with pytest.raises(TariffInvalid, match="1 to 200 entries, not 201"):
        parse(endless)


DETAILS = [
    (
        "/components/0/price",
        "0.4",
        (
            "must be a decimal in quotes, zero or more, at most 12 decimals, not 0.4; "
            'write it like "0.40"'
        ),
    ),
    (
        "/components/0/per",
        "3",
        "must be a power of ten, so that every amount is exact, not 3; write 1000000",
    ),
    (
        "/components/0/unit",
        "1",
        (
            "is no field known here; remove it, or use one of: code, models, per, price, regions, "
            "registers, service_classes, shape, when"
        ),
    ),
    (
        "/components/0/shape",
        '"pack"',
        (
            "must be one of: flat, graduated, time_of_use, volume, request_size, package, "
            "price_series, not 'pack'; choose one"
        ),
    ),
]


@pytest.mark.parametrize(("pointer", "value", "detail"), DETAILS)
def test_a_refusal_says_what_is_wanted_what_stands_there_and_what_to_do(
    pointer: str, value: str, detail: str
) -> None:
    with pytest.raises(TariffInvalid) as refusal:
        parse(changed(pointer, value))
    assert refusal.value.detail == detail


def test_a_refusal_does_not_repeat_a_novel() -> None:
    with pytest.raises(TariffInvalid) as refusal:
        parse(changed("/components/0/code", json.dumps("x" * 10_000)))
    assert len(refusal.value.detail) < 200


MODELS = """
models              | model      | matched
qwen-plus           | qwen-plus  | qwen-plus
qwen-plus           | qwen-plus2 |
qwen-*              | qwen-plus  | qwen-*
qwen-*              | qwen-      | qwen-*
qwen-*              | qwen       |
*                   | anything   | *
other qwen-* *      | qwen-plus  | qwen-*
qwen-plus           | Qwen-plus  |
"""


@pytest.mark.parametrize(("models", "model", "matched"), rows(MODELS))
def test_a_model_matches_its_name_or_a_prefix(models: str, model: str, matched: str) -> None:
    assert matching(models.split(), model) == (matched or None)


@pytest.mark.parametrize("price", ["-0.01", "NaN", "Infinity", "-Infinity", "0.0000000000001"])
def test_a_bad_price_cannot_be_made(price: str) -> None:
    bad = Decimal(price)
    for make in (
        lambda: Flat(bad),
        lambda: Step(0, bad),
        lambda: TimeOfUse((("peak", bad),)),
    ):
        with pytest.raises(ValueError, match="a price must"):
            make()


@pytest.mark.parametrize("per", [0, 3, -1_000_000, 10_000_000])
def test_a_price_that_would_not_come_out_even_cannot_be_made(per: int) -> None:
    one = Decimal(1)
    for make in (
        lambda: Flat(one, per),
        lambda: Graduated((Step(0, one),), per),
        lambda: TimeOfUse((("peak", one),), per),
    ):
        with pytest.raises(ValueError, match="per must be a power of ten"):
            make()


@pytest.mark.parametrize("starts", [(), (1,), (0, 5, 5), (0, 9, 5), (-1, 0)])
def test_steps_that_do_not_rise_from_zero_cannot_be_made(starts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="step"):
        Graduated(tuple(Step(start, Decimal(1)) for start in starts))


@pytest.mark.parametrize("buckets", [(), ("peak", "peak"), ("Peak",)])
def test_buckets_without_one_price_each_cannot_be_made(buckets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="bucket"):
        TimeOfUse(tuple((bucket, Decimal(1)) for bucket in buckets))


def test_terms_without_a_currency_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        Terms("XXX", None, (), TERMS.components[:1])


POURED = """
used | quantity | portions
0    | 10       | 10@0
0    | 11       | 10@0 1@1
9    | 1        | 1@0
10   | 1        | 1@1
5    | 20       | 5@0 10@1 5@2
20   | 7        | 7@2
99   | 1        | 1@2
"""


@pytest.mark.parametrize(("before", "quantity", "portions"), rows(POURED))
def test_a_pour_starts_where_the_last_one_ended(before: str, quantity: str, portions: str) -> None:
    price = Graduated((Step(0, Decimal(3)), Step(10, Decimal(2)), Step(20, Decimal(1))))
    poured = price.pour(int(quantity), Position(used=int(before), bucket=""))
    assert " ".join(f"{portion.quantity}@{portion.step}" for portion in poured) == portions


def test_a_pour_takes_the_price_of_its_bucket() -> None:
    price = TimeOfUse((("peak", Decimal(2)), ("off_peak", Decimal(1))))
    assert price.pour(5, Position(used=0, bucket="off_peak")) == [
        Portion(5, Decimal(1), bucket="off_peak")
    ]


ASKED = [
    ({"when": {"thinking": True}}, "whether a request reasoned"),
    ({"when": {"has": ["media_input"]}}, "attributes of requests"),
    ({"when": {"input_above": 5}}, "the size of each request"),
]


@pytest.mark.parametrize(("fields", "asked"), ASKED)
def test_terms_say_what_they_need_of_the_readings(fields: dict[str, Any], asked: str) -> None:
    """Whoever sums readings without it must refuse the document, or charge too little."""
    first, *rest = DOCUMENT["components"]
    assert parse(DOCUMENT | {"components": [first | fields, *rest]}).asks_for == {asked}
    assert TERMS.asks_for == frozenset()


def test_terms_say_what_they_need_of_the_invoices() -> None:
    (allowance,) = DOCUMENT["allowances"]
    document = DOCUMENT | {
        "time_basis": "request_end",
        "charges": [{"code": "plan", "kind": "standing", "each": "day", "price": "1"}],
        "allowances": [
            allowance | {"once": True},
            allowance | {"code": "part", "prorate": True},
        ],
    }
    assert parse(document).asks_for == {
        "another time basis",
        "charges",
        "proration",
        "what was drained before",
    }


LOST = [
    ({"code": "f", "kind": "fee", "percent": "5", "of": ["pro", "nothing"]}, "/charges/0/of/1"),
    ({"code": "f", "kind": "fee", "percent": "5", "price": "1"}, "/charges/0"),
    ({"code": "f", "kind": "fee"}, "/charges/0"),
    ({"code": "pro", "kind": "minimum", "amount": "5"}, "/charges/0/code"),
    ({"code": "f", "kind": "rent"}, "/charges/0/kind"),
    ({"code": "f"}, "/charges/0/kind"),
    ({"code": "f", "kind": "minimum", "amount": "5", "price": "1"}, "/charges/0/price"),
    (
        {
            "code": "f",
            "kind": "capacity",
            "models": ["*"],
            "input_tpm": 1,
            "output_tpm": 1,
            "input_price": "1",
            "output_price": "1",
        },
        "/charges/0/kind",
    ),
    (
        {
            "code": "f",
            "kind": "ladder",
            "standard": "0.90",
            "down": [{"to": "0.95", "percent": "1"}],
        },
        "/charges/0/down/0/to",
    ),
    (
        {"code": "f", "kind": "demand", "price": "1", "window_minutes": 5, "step_minutes": 6},
        "/charges/0/step_minutes",
    ),
]


@pytest.mark.parametrize(("charge", "pointer"), LOST)
def test_a_charge_with_a_fault_is_refused_at_the_field(charge: Any, pointer: str) -> None:
    with pytest.raises(TariffInvalid) as refusal:
        parse(DOCUMENT | {"charges": [charge]})
    assert refusal.value.pointer == pointer


BATCH = {"code": "b", "kind": "service_class", "factor": "0.5"}
FAULTY = [
    ({"modifiers": [BATCH | {"group": "g"}]}, "/stacking/g"),
    ({"modifiers": [BATCH], "stacking": {"g": "multiply"}}, "/stacking/g"),
    ({"modifiers": [BATCH | {"group": "g"}], "stacking": {"g": "add"}}, "/stacking/g"),
    ({"modifiers": [BATCH, BATCH]}, "/modifiers/1/code"),
    ({"modifiers": [BATCH | {"factor": "0.1234567"}]}, "/modifiers/0/factor"),
    ({"modifiers": [BATCH | {"when": {}}]}, "/modifiers/0/when"),
    (
        {"modifiers": [BATCH | {"when": {"input_above": 9, "input_up_to": 9}}]},
        "/modifiers/0/when/input_up_to",
    ),
    (
        {
            "modifiers": [
                {"code": kind, "kind": kind, "factor": "0.123456"}
                for kind in ("token_class", "service_class")
            ]
        },
        "/components/0",
    ),
    ({"time_basis": "whenever"}, "/time_basis"),
]


@pytest.mark.parametrize(("fields", "pointer"), FAULTY)
def test_modifiers_with_a_fault_are_refused_at_the_field(fields: Any, pointer: str) -> None:
    with pytest.raises(TariffInvalid) as refusal:
        parse(DOCUMENT | fields)
    assert refusal.value.pointer == pointer


SHAPES_REFUSED = [
    ({"shape": "package", "per": 1_000, "size": 5, "price": "1"}, "per"),
    ({"shape": "package", "per": 1, "size": 0, "price": "1"}, "size"),
    ({"shape": "volume", "per": 1, "steps": [{"from": 1, "price": "1"}]}, "steps/0/from"),
    ({"shape": "request_size", "per": 1, "tiers": [{"from": 0, "price": "1"}]}, "tiers/0/from"),
    (
        {
            "shape": "price_series",
            "per": 1,
            "series": {"start": "2026-09-24T00:00:00Z", "step_minutes": 20, "prices": ["1"]},
        },
        "series/step_minutes",
    ),
    (
        {
            "shape": "price_series",
            "per": 1,
            "series": {"start": "2026-09-24T00:05:00Z", "step_minutes": 15, "prices": ["1"]},
        },
        "series/start",
    ),
    (
        {
            "shape": "price_series",
            "per": 1,
            "series": {"start": "2026-09-24T00:00:00Z", "step_minutes": 15, "prices": [None]},
        },
        "series/prices",
    ),
]


@pytest.mark.parametrize(("shape", "pointer"), SHAPES_REFUSED)
def test_a_shape_with_a_fault_is_refused_at_the_field(shape: Any, pointer: str) -> None:
    component = {"code": "c", "models": ["*"], "registers": ["input"], **shape}
    with pytest.raises(TariffInvalid) as refusal:
        parse({"currency": "USD", "components": [component]})
    assert refusal.value.pointer == f"/components/0/{pointer}"
