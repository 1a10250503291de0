"""The JSON Schema says what the parser accepts, as far as a schema can."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from billing.presets import PRESETS
from billing.rating import calendar, scope
from billing.rating.charges import CHARGES
from billing.rating.tariff import SHAPES, parse
from tests.pure.tables import rows
from tests.pure.test_tariff import DOCUMENT, REFUSED, changed
from tests.pure.test_tariff_reference import examples

PATH = Path(calendar.__file__).with_name("tariff.schema.json")
SCHEMA: dict[str, Any] = json.loads(PATH.read_text())
VALID = Draft202012Validator(SCHEMA)
# Faults that only reading the whole document shows: a bucket without a price, a code given twice,
# a currency nobody issues, steps that fall.
BEYOND_A_SCHEMA = {
    ("/currency", '"ABC"'),
    ("/calendar", ""),
    ("/calendar/rules/0/bucket", '"shoulder"'),
    ("/components/0/code", '"unpriced"'),
    ("/components/2/code", '"output"'),
    ("/components/1/registers/1", '"requests"'),
    ("/components/1/steps/0/from", "1"),
    ("/components/1/steps/1/from", "0"),
    ("/components/2/prices/peak", ""),
    ("/components/2/prices/shoulder", '"1"'),
    ("/allowances/0/registers/1", '"requests"'),
    # Python lets $ stand before a last line break; the regular expressions of a schema do not.
    ("/components/0/price", '"0.40\\n"'),
    # For a schema 1000000000.0 is a whole number; for us it is a float.
    ("/components/0/per", "1000000.0"),
    ("/components/1/steps/1/from", "1e9"),
}


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("document", [document for document, *_ in examples()])
def test_the_examples_of_the_reference_are_valid(document: dict[str, Any]) -> None:
    assert list(VALID.iter_errors(document)) == []
    assert list(VALID.iter_errors(parse(document).as_document())) == []


def test_what_is_published_is_valid() -> None:
    documents = [version.document for preset in PRESETS.values() for version in preset.versions]
    assert [error for one in [DOCUMENT, *documents] for error in VALID.iter_errors(one)] == []


@pytest.mark.parametrize(("pointer", "value", "refused_at"), rows(REFUSED))
def test_the_schema_refuses_what_the_parser_refuses(
    pointer: str, value: str, refused_at: str
) -> None:
    assert VALID.is_valid(changed(pointer, value)) == ((pointer, value) in BEYOND_A_SCHEMA)


def fields(name: str) -> tuple[set[str], set[str]]:
    of = SCHEMA["$defs"][name]
    return set(of["properties"]), set(of["required"])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_component_has_the_fields_of_the_parser(shape: Any) -> None:
    known, required = fields(f"component_{shape.NAME}")
    must = {"code", "models", "registers", "shape", "per"} | shape.FIELDS
    assert required == must
    assert known == must | {"regions", "service_classes", "when"}


@pytest.mark.parametrize("kind", CHARGES.values(), ids=CHARGES)
def test_a_charge_has_the_fields_of_the_parser(kind: Any) -> None:
    known, required = fields(f"charge_{kind.KIND}")
    assert required == {"code", "kind"} | kind.REQUIRED
    assert known == required | kind.OPTIONAL


def test_a_modifier_has_the_fields_of_a_scope() -> None:
    known, required = fields("modifier")
    assert known == {"code", "kind", "factor", "group"} | scope.SCOPE_FIELDS
    assert required == {"code", "kind", "factor"}
