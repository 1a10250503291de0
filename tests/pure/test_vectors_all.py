"""All 68 cases have a test of their own, and our figures are those of the case file."""

import ast
import json
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pytest

from tests.pure import (
    test_vectors_charges,
    test_vectors_metering,
    test_vectors_money,
    test_vectors_time,
)
from tests.pure.vectors import SIGNATURE_56, TABLES, figures

HERE = Path(__file__).resolve().parent
CASES = HERE.parents[2] / "shared" / "vectors" / "cases.json"
NUMBERS = range(1, 69)
# Fields that a test spells out itself: tables, lists and words.
SPELT = {
    ("TV-18", "share"),
    ("TV-26", "parts"),
    ("TV-36", "policy_reject"),
    ("TV-41", "on_bill"),
    ("TV-51", "net_metering"),
    ("TV-47", "ok"),
    ("TV-53", "standing_30"),
    ("TV-56", "sig1"),
    ("TV-62", "unflagged_decrease"),
}


def test_every_case_has_a_named_test() -> None:
    named: set[int] = set()
    for path in HERE.glob("test_vectors_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                found = re.match(r"test_tv_(\d\d)_", node.name)
                named |= {int(found[1])} if found else set()
    assert named == set(NUMBERS)


def case_file() -> dict[str, dict]:
    if not CASES.exists():
        pytest.skip("the case file lies beside the repository where it was written; not here")
    return {case["id"]: case["expected"] for case in json.loads(CASES.read_text())}


def same(ours: str, theirs: object) -> bool:
    try:
        return Decimal(ours) == Decimal(str(theirs))
    except InvalidOperation:
        return ours == str(theirs)


def test_our_figures_are_those_of_the_case_file() -> None:
    cases, ours = case_file(), figures()
    assert cases.keys() == {f"TV-{number:02}" for number in NUMBERS}
    assert {case for case, _ in ours} | set(TABLES) == cases.keys()
    for (case, name), value in ours.items():
        assert same(value, cases[case][name]), (case, name)
    fields = {
        (case, name) for case, expected in cases.items() for name in expected if case not in TABLES
    }
    assert fields - ours.keys() == SPELT
    assert cases["TV-56"]["sig1"] == SIGNATURE_56


def cells(table: str, *columns: int) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()[1:]]
    return [[line[column] for column in columns] for line in lines]


def test_our_tables_are_those_of_the_case_file() -> None:
    cases = case_file()
    time = test_vectors_time
    assert cells(time.TV_16, 0, 1, 2) == cases["TV-16"]["rows"]
    assert cells(time.TV_17, 0, 1, 2, 3) == cases["TV-17"]["rows"]
    assert cells(time.TV_20, 0, 1, 2, 3, 4, 5, 6) == [
        [day, str(quarters), *(str(of[name]) for name in ("peak", "shoulder", "off")), *money]
        for day, quarters, of, *money in cases["TV-20"]["rows"]
    ]
    assert cells(time.TV_21, 0, 1, 2) == [list(map(str, row)) for row in cases["TV-21"]["rows"]]
    money = test_vectors_money
    for policy, (output, quality, amount) in money.TV_64.items():
        theirs = cases["TV-64"][policy.name]
        assert theirs["amount"] == amount
        assert (theirs.get("output", output), theirs.get("quality", quality)) == (output, quality)
    assert {factor: row for factor, *row in cells(test_vectors_charges.TV_33, 0, 1, 2)} == (
        cases["TV-33"]
    )
    assert cases["TV-48"]["ratio"].startswith("2.0909090909")  # 23/11, as the test has it
    linear = [str(number) for number in test_vectors_metering.TV_46]
    assert linear == cases["TV-46"]["estimated"]
