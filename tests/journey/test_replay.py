"""Real traces through a running Kilotoken: what the file holds is what the invoices say.

The sums here are those published beside the traces; they were not taken from our own readers.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.journey.live import Live, trace

STEPS = ("file", "events", "readings", "rated", "invoiced")
# From the README beside the traces; registers are disjoint, so a part is taken off its whole.
AZURE = {"input": 22_361_870, "output": 4_088_665}
MOONCAKE = {
    "input": 144_793_823 - 54_098_411,
    "cache_read": 54_098_411,
    "output": 4_122_048,
}
BAILIAN = {
    "input": 316_809_278,
    "output": 268_216_474 - 185_243_606,
    "reasoning": 185_243_606,
}
WHOLE = [
    ("azure_llm_2023_conv.csv", "azure", 19_366, 1, AZURE),
    ("mooncake_conversation.jsonl", "mooncake", 12_031, 1, MOONCAKE),
    ("bailian_day.csv.gz", "bailian", 387_003, 218, BAILIAN),
]
# The first 2,000 rows of each, added up with awk and ten lines of Python, not with our readers.
SAMPLE_ROWS = 2_000
SAMPLES = [
    ("azure_llm_2023_conv.csv", "azure", {"input": 2_209_565, "output": 529_807}),
    (
        "mooncake_conversation.jsonl",
        "mooncake",
        {"input": 19_370_815, "cache_read": 8_070_959, "output": 704_602},
    ),
    (
        "bailian_day.csv.gz",
        "bailian",
        {"input": 1_484_478, "output": 649_542, "reasoning": 707_572},
    ),
]


def steps_of(report: dict) -> dict[str, list[int]]:
    """Each register's column, step by step, without the derived register of requests."""
    return {
        register: [columns[step] for step in STEPS]
        for register, columns in report["registers"].items()
        if register != "requests"
    }


@pytest.mark.whole
@pytest.mark.parametrize(("name", "trace_format", "rows", "clients", "sums"), WHOLE)
def test_a_whole_trace_is_invoiced_to_the_token(
    live: Live, capsys, name, trace_format, rows, clients, sums
):
    report = live.replay(trace(name), "--format", trace_format, "--organization-per-client")
    with capsys.disabled():
        print(f"\n{report['said']}")
    assert report["balanced"], report["differences"]
    assert (report["rows"], report["organizations"]) == (rows, clients)
    assert report["registers"]["requests"]["events"] == rows
    assert steps_of(report) == {register: [total] * 5 for register, total in sums.items()}


@pytest.mark.parametrize(("name", "trace_format", "sums"), SAMPLES)
def test_a_sample_of_a_real_trace_is_invoiced_to_the_token(live: Live, name, trace_format, sums):
    path, slug = trace(name), f"sample-{trace_format}"
    live.manage("create_organization", slug, "--starts-at", _day_before_last_month())
    report = live.replay(
        path, "--format", trace_format, "--limit", SAMPLE_ROWS, "--organization", slug
    )
    assert report["balanced"], report["differences"]
    assert report["sent"]["submitted"] == SAMPLE_ROWS
    assert steps_of(report) == {register: [total] * 5 for register, total in sums.items()}


def _in_last_month() -> str:
    """Noon of the last day of last month; always within the 35 days that events may be old."""
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first - timedelta(hours=12)).isoformat()


GENERIC = """\
offset_s,model,client,input,output,input_audio
0,qwen-max,north,100,10,
1.5,qwen-max,south,200,20,7
899.999999,gpt-5,north,300,30,
900,unheard-of,north,400,40,1
"""
SUMS = {"input": 1_000, "output": 100, "input_audio": 8}


@pytest.fixture
def generic(tmp_path: Path) -> Path:
    """A file of our own, different in each test by its name, so that its events are new."""
    path = tmp_path / f"{tmp_path.name}.csv"
    path.write_text(GENERIC)
    return path


def test_every_client_of_a_trace_gets_an_invoice_that_adds_up(live: Live, generic: Path):
    report = live.replay(generic, "--format", "csv", "--organization-per-client")
    assert steps_of(report) == {register: [total] * 5 for register, total in SUMS.items()}
    assert (report["organizations"], len(report["invoices"])) == (2, 2)


def test_a_second_run_sends_duplicates_and_changes_nothing(live: Live, generic: Path):
    live.manage("create_organization", "Twice", "--starts-at", _day_before_last_month())
    options = ("--format", "csv", "--organization", "twice", "--start", _in_last_month())
    first = live.replay(generic, *options)
    # Without --start: where the earlier run put it is read off its events.
    second = live.replay(generic, *options[:-2])
    assert (first["sent"]["accepted"], second["sent"]["accepted"]) == (4, 0)
    assert second["sent"]["duplicate"] == 4
    assert second["registers"] == first["registers"]


def test_usage_of_an_invoiced_period_is_due_with_the_next_one(live: Live, generic: Path):
    live.manage("create_organization", "Late", "--starts-at", _day_before_last_month())
    options = ("--organization", "late", "--start", _in_last_month())
    live.replay(generic, "--format", "csv", *options)
    later = generic.with_name("later.csv")
    later.write_text("offset_s,model,input\n0,qwen-max,5\n")
    report = live.replay(later, "--format", "csv", *options)
    assert report["balanced"]
    assert report["registers"]["input"] == {
        "file": 5, "events": 5, "other": 1_000, "readings": 1_005, "rated": 1_005,
        "invoiced": 1_000, "due_later": 5,
    }  # fmt: skip


def test_a_period_that_is_not_over_is_rated_and_not_invoiced(live: Live, tmp_path: Path):
    live.manage("create_organization", "Open")
    path = tmp_path / "open.csv"
    path.write_text("offset_s,model,input\n0,qwen-max,1000\n")
    now = datetime.now(UTC)
    start = max(now - timedelta(minutes=1), now.replace(day=1, hour=0, minute=0, second=0))
    options = ("--format", "csv", "--organization", "open", "--start", start.isoformat())
    report = live.replay(path, *options)
    assert report["balanced"]
    assert report["invoices"] == []
    columns = report["registers"]["input"]
    assert (columns["rated"], columns["invoiced"], columns["due_later"]) == (1_000, 0, 1_000)


def test_a_replay_that_does_not_balance_says_where_and_fails(live: Live, generic: Path):
    live.manage("create_organization", "Tampered", "--starts-at", _day_before_last_month())
    options = ("--organization", "tampered", "--start", _in_last_month(), "--no-invoice")
    live.replay(generic, "--format", "csv", *options)
    live.execute(
        "UPDATE metering_reading SET quantity = quantity + 1 WHERE register = 'output' AND "
        "(organization_id, starts_at, rating_key_id) IN (SELECT organization_id, starts_at, "
        "rating_key_id FROM metering_reading WHERE register = 'output' AND organization_id = "
        "(SELECT id FROM accounts_organization WHERE slug = 'tampered') LIMIT 1)"
    )
    said = live.manage("replay", generic, "--format", "csv", *options, code=1)
    assert "tampered: output: readings are 101, events 100" in said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--start", "2020-01-01T00:00:00Z"), "events older than 35 days are not accepted"),
        (("--start", "2100-01-01T00:00:00Z"), "which is still to come"),
        (("--start", "yesterday"), "is not an instant such as"),
        (("--speed", "0"), "neither max nor a whole number"),
        (("--organization", "nobody"), "There is no organization 'nobody'"),
        (("--format", "bailian"), "column 'input_tokens' is missing"),
        (("--tariff", "free-beer"), "There is no tariff 'free-beer'"),
    ],
)
@pytest.mark.django_db
def test_a_replay_that_cannot_work_is_refused_before_anything_is_sent(
    generic: Path, options, complaint
):
    who = () if "--organization" in options else ("--organization-per-client",)
    how = () if "--format" in options else ("--format", "csv")
    with pytest.raises(CommandError, match=complaint):
        call_command("replay", generic, *who, *how, *options, "--url", "http://127.0.0.1:1/")


def test_an_interrupted_replay_goes_on_where_it_was(live: Live, generic: Path):
    """The journal says two rows were answered, and they are stored: only two are sent again."""
    options = ("--format", "csv", "--organization-per-client", "--start", _in_last_month())
    live.replay(generic, *options, "--limit", "2", "--no-invoice")
    ((source, slug),) = live.rows(
        "SELECT DISTINCT source, 'replay-north' FROM metering_eventkey WHERE source LIKE %s",
        f"replay:{generic.name}%",
    )
    journal = Path(live.env["KILOTOKEN_HOME"]) / "replays"
    journal.mkdir(exist_ok=True)
    path = journal / f"{source.replace(':', '-')}-{slug}.json"
    path.write_text(json.dumps({"rows_answered": 2}))
    report = live.replay(generic, *options)
    assert report["sent"]["submitted"] == 2
    assert report["registers"]["input"]["events"] == 1_000
    assert not path.exists()


def _day_before_last_month() -> str:
    first = datetime.now(UTC).replace(day=1)
    last_month = (first - timedelta(days=1)).replace(day=1)
    return (last_month - timedelta(days=1)).date().isoformat()
