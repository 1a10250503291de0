"""What each trace format means in registers, on samples small enough to add up by hand."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from workloads import traces
from workloads.traces import BadTrace, Format

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805909,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:50.9951690,0,0
"""
MOONCAKE = """\
{"timestamp": 0, "input_length": 1500, "output_length": 10, "hash_ids": [0, 1, 2]}
{"timestamp": 3000, "input_length": 1400, "output_length": 20, "hash_ids": [0, 1, 7]}
{"timestamp": 3000, "input_length": 1000, "output_length": 30, "hash_ids": [0, 1]}
{"timestamp": 6000, "input_length": 1536, "output_length": 40, "hash_ids": [9, 1, 2]}
"""
BAILIAN = """\
offset_s,client,model,input_tokens,output_tokens,reasoning_tokens
0.335,deepseek-r1-035,deepseek-r1,31,1627,588
0.444,qwen-max-061,qwen-max,76,469,0
86399.775,deepseek-r1-035,deepseek-r1,33,100,100
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,GPT-4,1087,230,1317,API log
118,ChatGPT,417,0,417,Conversation log
"""
GENERIC = """\
offset_s,model,project,api_key,input,output,input_audio
0,qwen-max,search,key-a,100,10,
1.000001,,search,,50,,7
"""


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "trace_format", "text", "rows", "totals", "last_offset_us"),
    [
        ("a.csv", "azure", AZURE, 3, {"input": 770, "output": 153}, 4_314_579),
        (
            "m.jsonl",
            "mooncake",
            MOONCAKE,
            4,
            {"input": 1500 + 376 + 0 + 1536, "cache_read": 1024 + 1000, "output": 100},
            6_000_000,
        ),
        (
            "b.csv.gz",
            "bailian",
            BAILIAN,
            3,
            {"input": 140, "output": 1039 + 469, "reasoning": 688},
            86_399_775_000,
        ),
        ("g.csv", "burstgpt", BURSTGPT, 3, {"input": 1976, "output": 248}, 113_000_000),
        ("c.csv", "csv", GENERIC, 2, {"input": 150, "output": 10, "input_audio": 7}, 1_000_001),
    ],
)
def test_every_format_adds_up_in_disjoint_registers(
    tmp_path, name, trace_format, text, rows, totals, last_offset_us
):
    path = written(tmp_path, name, text)
    summary = traces.summarize(traces.read(path, Format(trace_format), model="m"))
    assert summary.rows == rows
    assert {name: total for name, total in summary.totals.items() if total} == totals
    assert summary.last_offset_us == last_offset_us


def test_a_prefix_block_seen_before_is_a_cache_hit_only_while_it_leads(tmp_path):
    path = written(tmp_path, "m.jsonl", MOONCAKE)
    cached = [
        request.quantities.get("cache_read", 0)
        for request in traces.read(path, Format.MOONCAKE, model="m")
    ]
    assert cached == [0, 1024, 1000, 0]


def test_ids_are_row_numbers_so_that_a_file_always_makes_the_same_events(tmp_path):
    path = written(tmp_path, "b.csv.gz", BAILIAN)
    first = list(traces.read(path, Format.BAILIAN, model=""))
    assert [request.id for request in first] == ["1", "2", "3"]
    assert first == list(traces.read(path, Format.BAILIAN, model=""))


def test_a_request_that_used_nothing_is_still_a_request(tmp_path):
    last = list(traces.read(written(tmp_path, "a.csv", AZURE), Format.AZURE, model="m"))[-1]
    assert last.quantities == {"input": 0}


def test_a_generic_row_carries_its_labels_and_falls_back_to_the_named_model(tmp_path):
    rows = list(traces.read(written(tmp_path, "c.csv", GENERIC), Format.CSV, model="fallback"))
    assert rows[0].labels == {"project": "search", "api_key": "key-a"}
    assert [row.model for row in rows] == ["qwen-max", "fallback"]


def test_a_generic_file_with_instants_keeps_them_relative_to_its_first_row(tmp_path):
    text = (
        "occurred_at,input\n2026-11-01T10:00:00+01:00,5\n"
        "2026-11-01T09:00:00.25Z,6\n2026-11-01T08:59:59Z,7\n"
    )
    path = written(tmp_path, "c.csv", text)
    offsets = [row.offset_us for row in traces.read(path, Format.CSV, model="m")]
    assert offsets == [0, 250_000, -1_000_000]
    assert traces.origin(path) == datetime(2026, 11, 1, 9, tzinfo=UTC)


def test_a_limit_reads_no_further(tmp_path):
    text = AZURE + "this is not a row\n"
    path = written(tmp_path, "a.csv", text)
    assert len(list(traces.read(path, Format.AZURE, model="m", limit=3))) == 3


@pytest.mark.parametrize(
    ("trace_format", "text", "complaint"),
    [
        ("azure", "TIMESTAMP,ContextTokens\n", "row 1: column 'GeneratedTokens' is missing"),
        ("azure", AZURE + "2023-11-16 18:15:51.1,1.5,2\n", "row 4: '1.5' is not a whole number"),
        ("azure", AZURE + "yesterday,1,2\n", "row 4: 'yesterdayZ' is not an RFC 3339 instant"),
        ("azure", AZURE + "1,2\n", "row 4: 2 values under 3 columns"),
        ("azure", "", "row 1: column 'TIMESTAMP' is missing; found nothing"),
        ("mooncake", "[]\n", "row 1: an object with hash_ids, input_length"),
        ("mooncake", "{\n", "row 1: not JSON"),
        ("bailian", BAILIAN + "1,c,m,1,2,3\n", "row 4: reasoning_tokens 3 is part of"),
        ("bailian", BAILIAN + "-1,c,m,1,2,0\n", "row 4: '-1' lies before"),
        ("burstgpt", BURSTGPT + "NaN,m,1,2,3,x\n", "row 4: 'NaN' is not a number of seconds"),
        ("csv", "when,input\n", "row 1: a column occurred_at or offset_s must say when"),
        ("csv", "offset_s,model\n", "row 1: no column names a register"),
        ("csv", "offset_s,Input Tokens\n", "'Input Tokens' is neither a known column"),
        ("csv", "occurred_at,input\n2026-11-01T10:00:00,5\n", "has no time zone"),
    ],
)
def test_a_bad_row_is_named_with_what_is_expected(tmp_path, trace_format, text, complaint):
    path = written(tmp_path, "bad.txt", text)
    with pytest.raises(BadTrace, match=r"bad\.txt") as raised:
        list(traces.read(path, Format(trace_format), model="m"))
    assert complaint in str(raised.value)


def test_a_file_cut_off_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "b.csv.gz"
    path.write_bytes(gzip.compress(BAILIAN.encode())[:-12])
    with pytest.raises(BadTrace, match="after row"):
        list(traces.read(path, Format.BAILIAN, model="m"))
