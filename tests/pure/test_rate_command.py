"""`manage.py rate`: a tariff and a file of events in, lines and totals out, and no database."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from billing.rating.document import Field
from billing.rating.event import read_event
from billing.rating.gathering import Gathered, Outcome
from billing.rating.period import Period
from billing.rating.tariff import parse
from billing.rating.usage import PricedTerms
from tests.pure.tariffs import component, tiers

TARIFF = {
    "currency": "USD",
    "components": [
        component("input", tiers=tiers((0, "1.20"), (32_000, "2.40"))),
        component("output", tiers=tiers((0, "6"), (32_000, "12"))),
    ],
    "charges": [{"code": "plan", "kind": "standing", "each": "day", "price": "1.50"}],
}


def event(number: int, **fields: Any) -> dict[str, Any]:
    base = {"id": f"e{number}", "source": "gw", "occurred_at": "2026-09-24T12:00:00Z"}
    return base | {"model": "m", "usage": {"input": 32_000, "output": 1_000}} | fields


def run(folder: Path, events: list[Any], *arguments: str, tariff: Any = TARIFF) -> str:
    (folder / "T.json").write_text(json.dumps(tariff))
    lines = (one if isinstance(one, str) else json.dumps(one) for one in events)
    (folder / "E.ndjson").write_text("\n".join(lines))
    out = StringIO()
    paths = (f"--tariff={folder / 'T.json'}", f"--events={folder / 'E.ndjson'}")
    call_command("rate", *paths, *arguments, stdout=out)
    return out.getvalue()


def test_lines_totals_and_what_was_left_out(tmp_path: Path) -> None:
    larger = event(2, usage={"input": 32_001, "output": 1_000})
    events = [event(1), larger, larger, event(1, model="other"), event(3, model="other")]
    found = json.loads(run(tmp_path, events, "--format=json", "--explain", "--tax-percent=6"))
    assert found["net"] == "45.19"  # 0.04 + 0.08 + 0.01 + 0.01, 0.04 + 0.01, and 30 x 1.50
    assert (found["tax"], found["total"]) == ("2.71", "47.90")
    assert (found["events"], found["duplicates"], found["conflicts"]) == (3, 1, 1)
    tiered = [line["trace"]["tier"]["number"] for line in found["lines"] if line["model"] == "m"]
    assert tiered == [1, 2, 1, 2]
    assert found["lines"][-1]["why"][0] == "30 local days at 1.50 USD each = 45.00 USD."


def test_a_table_says_why_where_it_is_asked_to(tmp_path: Path) -> None:
    plain, explained = (run(tmp_path, [event(1)], *more) for more in ((), ("--explain",)))
    assert "32,000        1.20  1,000,000  0.0384" in plain
    assert "total  45.05 USD" in plain
    assert "Tier 1 of 2" in explained
    assert "Tier 1 of 2" not in plain


def test_a_spreadsheet_gets_every_digit(tmp_path: Path) -> None:
    lines = run(tmp_path, [event(1)], "--format=csv").splitlines()
    assert lines[0] == "version,component,model,register,bucket,step,quantity,unit_price,per,amount"
    assert lines[1] == "T,input,m,input,,0,32000,1.20,1000000,0.0384"


def test_a_period_is_cut_at_local_midnights(tmp_path: Path) -> None:
    late = event(1, occurred_at="2026-09-24T16:00:00Z")  # the 25th in Beijing
    day = ("--from=2026-09-24", "--to=2026-09-25", "--zone=Asia/Shanghai", "--format=json")
    assert json.loads(run(tmp_path, [late, event(2)], *day))["events"] == 1


def test_a_second_tariff_follows_at_its_instant(tmp_path: Path) -> None:
    dearer = {"currency": "USD", "components": [component("input", price="1000")]}
    (tmp_path / "U.json").write_text(json.dumps(dearer))
    later = f"--tariff={tmp_path / 'U.json'}@2026-09-24T13:00:00Z"
    events = [event(1), event(2, occurred_at="2026-09-24T13:00:00Z")]
    found = json.loads(run(tmp_path, events, later, "--format=json"))
    assert [(line["version"], line["component"]) for line in found["lines"]] == [
        ("T", "input"),
        ("T", "output"),
        ("U", "input"),
        ("U", "unpriced"),
        ("T", "plan"),
    ]


def test_charges_rest_on_facts_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "F.json").write_text(
        json.dumps(
            {
                "peaks_before": {"peak": [1_000_000]},
                "occupancy": "0.85",
                "spent_before_minor": {"year": 100},
                "provider_cost_micros": {"m": 2_000_000},
                "terms_ending": ["year"],
            }
        )
    )
    charges = [
        {
            "code": "peak",
            "kind": "demand",
            "price": "1",
            "window_minutes": 1,
            "ratchet": {"percent": 50, "months": 12},
        },
        {"code": "cost", "kind": "pass_through", "models": ["*"], "markup_percent": "0"},
        {"code": "year", "kind": "commitment", "amount": "1000"},
    ]
    facts = f"--facts={tmp_path / 'F.json'}"
    tariff = TARIFF | {"charges": charges}
    found = json.loads(run(tmp_path, [event(1)], facts, "--format=json", tariff=tariff))
    amounts = {line["component"]: line["amount"] for line in found["lines"]}
    assert (amounts["peak"], amounts["cost"], amounts["year"]) == ("500", "2", "496.95")


REFUSED = [
    ([event(1, usage={"input": 1.5})], "line 1: /usage/input: must be a whole number"),
    ([event(1), "{"], "line 2: no JSON"),
    ([event(1, usage={"requests": 1})], "without requests"),
    ([event(1, prompt="hello")], "/prompt: is no field known here"),
    ([], "no event to take the month of"),
]


@pytest.mark.parametrize(("events", "why"), REFUSED)
def test_what_cannot_be_rated_is_refused_where_it_is_wrong(
    tmp_path: Path, events: list[Any], why: str
) -> None:
    with pytest.raises(CommandError, match=why):
        run(tmp_path, events)


def test_a_wrong_tariff_is_refused_at_its_field(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="/components/0/price: must be a decimal in quotes"):
        run(
            tmp_path,
            [event(1)],
            tariff={"currency": "USD", "components": [component("x", price=1)]},
        )


def test_a_wrong_argument_is_refused_in_words(tmp_path: Path) -> None:
    for argument, why in (
        ("--zone=Mars/Base", "no IANA time zone"),
        ("--tax-percent=six", "invalid percentage value"),
        ("--from=2026-09-01", "both --from and --to"),
        ("--tariff=/nowhere/T.json@2026-09-24T13:00:00Z", "No such file"),
    ):
        with pytest.raises(CommandError, match=why):
            run(tmp_path, [event(1)], argument)


def test_a_fault_is_named_with_its_line(tmp_path: Path) -> None:
    for text, why in (
        ('{"id": "x"', "line 2: no JSON"),
        ('{"id": "x", "id": "y"}', "line 2: an object has the key 'id' twice"),
        ('{"id": NaN}', "line 2: NaN is no JSON number"),
        ('{"id": "x"}', "line 2: /model: is missing"),
        ("[1]", "line 2: the document: must be an object"),
    ):
        with pytest.raises(CommandError, match=why):
            run(tmp_path, [event(1), text])


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="line 1: longer than 1,048,576 bytes"):
        run(tmp_path, ["x" * 2_000_000])


def test_the_same_event_with_its_registers_in_another_order_is_a_replay(tmp_path: Path) -> None:
    other = event(1, usage={"output": 1_000, "input": 32_000})
    found = json.loads(run(tmp_path, [event(1), other], "--format=json"))
    assert (found["events"], found["duplicates"], found["conflicts"]) == (1, 1, 0)


def test_events_are_forgotten_once_they_are_summed(tmp_path: Path) -> None:
    """What is kept does not grow with what an event says."""
    terms = parse(TARIFF)
    month = Period(datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))
    found = Gathered(month, [PricedTerms("T", month, terms)])
    for number in range(100):
        assert found.add(read_event(Field(event(number)))) is Outcome.TAKEN
    assert not found.kept
    assert len(found.sums) == 3  # two registers and the count of requests, in one quarter-hour
    assert found.counts[Outcome.TAKEN] == 100


def test_the_steps_together_are_the_total(tmp_path: Path) -> None:
    found = json.loads(run(tmp_path, [event(1)], "--format=json", "--tax-percent=6"))
    assert sum(Decimal(step["amount"]) for step in found["steps"]) == Decimal(found["total"])
