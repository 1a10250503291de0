"""Raw provider usage becomes disjoint registers by the published table, or is refused by name."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kilotoken import dialects as client

from metering.ingest import decode
from metering.usage import registers
from metering.usage.dialects import DIALECTS
from metering.usage.dialects.table import Dialect, NotACount, Unreadable
from metering.usage.event import Rejected, UsageEvent, read
from tests.meter import make_body

NOW = datetime(2026, 11, 18, 10, 7, 30, tzinfo=UTC)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "dialects.md"

# As the providers' own documentation shows them, and as their endpoints answer.
CASES: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    # OpenAI, prompt caching guide: 1,920 of 2,006 prompt tokens cached
    ("openai_chat",
     {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
      "prompt_tokens_details": {"cached_tokens": 1920},
      "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0,
                                    "rejected_prediction_tokens": 0}},
     {"input": 86, "cache_read": 1920, "output": 300}),
    # OpenAI, chat completion object: audio in both directions
    ("openai_chat",
     {"prompt_tokens": 1117, "completion_tokens": 346, "total_tokens": 1463,
      "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 17},
      "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 300,
                                    "accepted_prediction_tokens": 12,
                                    "rejected_prediction_tokens": 3}},
     {"input": 1100, "input_audio": 17, "output": 46, "output_audio": 300}),
    # audio that was cached is both cached and audio, and counted once
    ("openai_chat",
     {"prompt_tokens": 400, "completion_tokens": 10, "total_tokens": 410,
      "prompt_tokens_details": {"cached_tokens": 150, "audio_tokens": 200, "text_tokens": 200,
                                "cached_tokens_details": {"text_tokens": 100, "audio_tokens": 50}}},
     {"input": 100, "cache_read": 100, "cache_read_audio": 50, "input_audio": 150, "output": 10}),
    # embeddings have no completion
    ("openai_chat", {"prompt_tokens": 8, "total_tokens": 8}, {"input": 8, "output": 0}),
    ("openai_chat",
     {"prompt_tokens": 5000, "completion_tokens": 0, "total_tokens": 5000,
      "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 3000,
                                "cache_write_tokens_details": {"ttl_30m_tokens": 2500,
                                                               "ttl_12h_tokens": 500}}},
     {"input": 1000, "cache_read": 1000, "cache_write": 2500, "cache_write_12h": 500, "output": 0}),
    # OpenAI, Responses API reference
    ("openai_responses",
     {"input_tokens": 36, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 87,
      "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 123},
     {"input": 36, "output": 87}),
    ("openai_responses",
     {"input_tokens": 81, "input_tokens_details": {"cached_tokens": 64}, "output_tokens": 1035,
      "output_tokens_details": {"reasoning_tokens": 832}, "total_tokens": 1116},
     {"input": 17, "cache_read": 64, "output": 203, "reasoning": 832}),
    # OpenAI, transcription and image objects: the breakdown in the singular, and in the plural
    ("openai_responses",
     {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59,
      "input_token_details": {"text_tokens": 10, "audio_tokens": 4}},
     {"input": 10, "input_audio": 4, "output": 45}),
    ("openai_responses",
     {"total_tokens": 100, "input_tokens": 50, "output_tokens": 50,
      "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}},
     {"input": 10, "input_image": 40, "output": 50}),
    # Anthropic, prompt caching guide: three fields that do not overlap
    ("anthropic",
     {"input_tokens": 50, "cache_read_input_tokens": 100_000, "cache_creation_input_tokens": 0,
      "output_tokens": 503},
     {"input": 50, "cache_read": 100_000, "output": 503}),
    # Anthropic, the same guide: writes by how long they live
    ("anthropic",
     {"input_tokens": 2048, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 248,
      "output_tokens": 503, "service_tier": "standard",
      "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100}},
     {"input": 2048, "cache_read": 1800, "cache_write": 148, "cache_write_1h": 100,
      "output": 503}),
    # Anthropic, web search tool
    ("anthropic",
     {"input_tokens": 6039, "output_tokens": 931, "cache_creation_input_tokens": 0,
      "cache_read_input_tokens": 0, "server_tool_use": {"web_search_requests": 1}},
     {"input": 6039, "output": 931, "web_search": 1}),
    ("anthropic",
     {"input_tokens": 10, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 4},
      "iterations": [{"type": "compaction", "input_tokens": 900, "output_tokens": 60},
                     {"type": "message", "input_tokens": 10, "output_tokens": 5}]},
     {"input": 910, "output": 61, "reasoning": 4}),
    # Gemini, usageMetadata with thinking: thoughts stand beside the candidates
    ("gemini",
     {"promptTokenCount": 9, "candidatesTokenCount": 579, "totalTokenCount": 1474,
      "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}], "thoughtsTokenCount": 886},
     {"input": 9, "output": 579, "reasoning": 886}),
    # Gemini, context caching guide: cached content inside the prompt
    ("gemini",
     {"promptTokenCount": 696_219, "cachedContentTokenCount": 696_190,
      "candidatesTokenCount": 214, "totalTokenCount": 696_433, "trafficType": "ON_DEMAND"},
     {"input": 29, "cache_read": 696_190, "output": 214}),
    # Gemini, as the SDK says it, with media, some of them cached
    ("gemini",
     {"prompt_token_count": 1000, "cached_content_token_count": 400, "candidates_token_count": 50,
      "total_token_count": 1090, "tool_use_prompt_token_count": 40,
      "prompt_tokens_details": [{"modality": "TEXT", "token_count": 500},
                                {"modality": "AUDIO", "token_count": 300},
                                {"modality": "IMAGE", "token_count": 200}],
      "cache_tokens_details": [{"modality": "TEXT", "token_count": 300},
                               {"modality": "AUDIO", "token_count": 100}]},
     {"input": 200, "cache_read": 300, "cache_read_audio": 100, "input_audio": 200,
      "input_image": 200, "output": 50, "tool_use": 40}),
    # DashScope, context cache guide: an explicit cache is written, then read
    ("dashscope",
     {"prompt_tokens": 1505, "completion_tokens": 100, "total_tokens": 1605,
      "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_input_tokens": 1494,
                                "cache_creation": {"ephemeral_5m_input_tokens": 1494},
                                "cache_type": "ephemeral"},
      "completion_tokens_details": {"reasoning_tokens": 60, "text_tokens": 40}},
     {"input": 11, "cache_write": 1494, "output": 40, "reasoning": 60}),
    ("dashscope",
     {"input_tokens": 3019, "output_tokens": 104, "total_tokens": 3123,
      "prompt_tokens_details": {"cached_tokens": 2048}},
     {"input": 971, "cache_read": 2048, "output": 104}),
    # DashScope, its own names, an image in the prompt said twice
    ("dashscope",
     {"input_tokens": 1277, "output_tokens": 81, "total_tokens": 1358, "image_tokens": 1249,
      "input_tokens_details": {"image_tokens": 1249, "text_tokens": 28},
      "output_tokens_details": {"text_tokens": 81}, "plugins": {"search": {"count": 2,
                                                                "strategy": "turbo"}}},
     {"input": 28, "input_image": 1249, "output": 81, "web_search": 2}),
    # DeepSeek, chat completion reference
    ("deepseek",
     {"prompt_tokens": 17, "completion_tokens": 9, "total_tokens": 26,
      "prompt_tokens_details": {"cached_tokens": 0}, "prompt_cache_hit_tokens": 0,
      "prompt_cache_miss_tokens": 17},
     {"input": 17, "output": 9}),
    ("deepseek",
     {"prompt_tokens": 900, "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 260,
      "prompt_tokens_details": {"cached_tokens": 640}, "completion_tokens": 120,
      "total_tokens": 1020, "completion_tokens_details": {"reasoning_tokens": 80}},
     {"input": 260, "cache_read": 640, "output": 40, "reasoning": 80}),
    # vLLM, quickstart; and with --enable-prompt-tokens-details
    ("vllm",
     {"prompt_tokens": 24, "total_tokens": 41, "completion_tokens": 17,
      "prompt_tokens_details": None},
     {"input": 24, "output": 17}),
    ("vllm",
     {"prompt_tokens": 31, "total_tokens": 51, "completion_tokens": 20,
      "prompt_tokens_details": {"cached_tokens": 16}},
     {"input": 15, "cache_read": 16, "output": 20}),
    # OpenTelemetry, registry: cached input is in the input, reasoning in the output
    ("opentelemetry",
     {"input_tokens": 180, "output_tokens": 100, "cache_read.input_tokens": 50,
      "cache_creation.input_tokens": 25, "reasoning.output_tokens": 30},
     {"input": 105, "cache_read": 50, "cache_write": 25, "output": 70, "reasoning": 30}),
    ("opentelemetry", {"prompt_tokens": 3, "completion_tokens": 4}, {"input": 3, "output": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "usage", "expected"), CASES)
def test_each_documented_example_means_these_registers(
    name: str, usage: dict[str, Any], expected: dict[str, int]
) -> None:
    assert DIALECTS[name].read(usage) == expected


@pytest.mark.parametrize(("name", "usage", "expected"), CASES)
def test_an_event_with_raw_usage_is_the_event_with_those_registers(
    name: str, usage: dict[str, Any], expected: dict[str, int]
) -> None:
    raw = json.dumps([make_body(usage=usage, usage_format=name)]).encode()
    plain = json.dumps([make_body(usage=expected)]).encode()
    (one,), (other,) = (decode.decode(body, lines=False, now=NOW).events for body in (raw, plain))
    assert isinstance(one, UsageEvent)
    assert one == other


INCONSISTENT = [
    ("openai_chat", {"prompt_tokens": 10, "completion_tokens": 5,
                     "prompt_tokens_details": {"cached_tokens": 11}},
     "prompt_tokens 10 is less than what it holds, prompt_tokens_details.cached_tokens 11"),
    ("openai_chat", {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 99},
     "prompt_tokens 10 + completion_tokens 5 = 15, but total_tokens is 99"),
    ("openai_chat", {"prompt_tokens": 10, "completion_tokens": 5,
                     "completion_tokens_details": {"reasoning_tokens": 6}}, "reasoning_tokens 6"),
    ("openai_chat", {"prompt_tokens": 100, "prompt_tokens_details": {
        "cached_tokens": 10, "audio_tokens": 20, "cached_tokens_details": {"audio_tokens": 11}}},
     "cached_tokens 10 is less"),
    ("openai_chat", {"prompt_tokens": 100, "prompt_tokens_details": {
        "cached_tokens": 60, "audio_tokens": 60}}, "prompt_tokens 100 is less"),
    ("openai_responses", {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 1},
                          "input_token_details": {"cached_tokens": 2}}, "also reported as 1"),
    ("anthropic", {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 700,
                   "cache_creation": {"ephemeral_5m_input_tokens": 500,
                                      "ephemeral_1h_input_tokens": 100}}, "= 600, but"),
    ("anthropic", {"input_tokens": 1, "output_tokens": 1,
                   "output_tokens_details": {"thinking_tokens": 2}}, "output_tokens 1 is less"),
    ("deepseek", {"prompt_tokens": 900, "prompt_cache_hit_tokens": 640,
                  "prompt_cache_miss_tokens": 261, "completion_tokens": 1}, "901, but"),
    ("deepseek", {"prompt_tokens": 900, "prompt_cache_hit_tokens": 640,
                  "prompt_tokens_details": {"cached_tokens": 1}}, "is also reported as"),
    ("gemini", {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 2,
                "totalTokenCount": 15}, "= 17, but totalTokenCount is 15"),
    ("gemini", {"promptTokenCount": 10, "cachedContentTokenCount": 5, "cacheTokensDetails":
                [{"modality": "AUDIO", "tokenCount": 5}]}, "promptTokensDetails.AUDIO 0 is less"),
    ("dashscope", {"input_tokens": 10, "image_tokens": 3,
                   "input_tokens_details": {"image_tokens": 4}}, "also reported as"),
    ("opentelemetry", {"input_tokens": 10, "cache_read.input_tokens": 11}, "input_tokens 10"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "usage", "said"), INCONSISTENT)
def test_counts_that_contradict_each_other_are_rejected_with_the_numbers(
    name: str, usage: dict[str, Any], said: str
) -> None:
    with pytest.raises(Rejected) as caught:
        read(make_body(usage=usage, usage_format=name), now=NOW)
    assert caught.value.code == "inconsistent_tokens"
    assert said in caught.value.detail
    assert caught.value.pointer.startswith("/usage/")


UNKNOWN = [
    ("openai_chat", {"prompt_tokens": 9, "prompt_tokens_details": {"smell_tokens": 4}},
     "/usage/prompt_tokens_details/smell_tokens"),
    ("openai_chat", {"prompt_tokens": 9, "surcharge_tokens": 3}, "/usage/surcharge_tokens"),
    ("openai_chat", {"prompt_tokens": 9, "new_tokens": "3"}, "/usage/new_tokens"),
    ("openai_chat", {"prompt_tokens": 9, "tiers": [{"tokens": 3}]}, "/usage/tiers"),
    ("anthropic", {"input_tokens": 1, "cache_creation": {"ephemeral_24h_input_tokens": 5}},
     "/usage/cache_creation/ephemeral_24h_input_tokens"),
    ("anthropic", {"input_tokens": 1, "server_tool_use": {"robot_requests": 1}},
     "/usage/server_tool_use/robot_requests"),
    ("anthropic", {"input_tokens": 1, "iterations": [{"type": "dream"}]}, "/usage/iterations/0"),
    ("gemini", {"promptTokenCount": 9, "promptTokensDetails": [{"modality": "SMELL",
                                                               "tokenCount": 4}]},
     "/usage/promptTokensDetails/SMELL"),
    ("openai_responses", {"input_tokens": 9, "prompt_tokens": 3}, "/usage/prompt_tokens"),
    ("deepseek", {"prompt_tokens": 9, "prompt_tokens_details": {"audio_tokens": 3}},
     "/usage/prompt_tokens_details/audio_tokens"),
    ("opentelemetry", {"input_tokens": 9, "smell.input_tokens": 3}, "/usage/smell/input_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "usage", "pointer"), UNKNOWN)
def test_a_count_that_no_row_names_is_refused_and_never_becomes_input(
    name: str, usage: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(Rejected) as caught:
        read(make_body(usage=usage, usage_format=name), now=NOW)
    assert (caught.value.code, caught.value.pointer) == ("unknown_usage_class", pointer)
    assert "counted nowhere" in caught.value.detail or "no kind" in caught.value.detail


@pytest.mark.parametrize("extra", [
    {"surcharge_tokens": 0}, {"surcharge_tokens": None}, {"service_tier": "standard"},
    {"is_byok": False}, {"tiers": []}, {"more": {"deep_tokens": 0}},
])  # fmt: skip
def test_words_and_nothings_beside_the_counts_do_no_harm(extra: dict[str, Any]) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, **extra}
    event = read(make_body(usage=usage, usage_format="openai_chat"), now=NOW)
    assert event.usage == {"input": 9, "output": 1}


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"usage_format": "klingon"}, "usage_format_invalid", "/usage_format"),
        ({"usage_format": 7}, "usage_format_invalid", "/usage_format"),
        ({"usage_format": ["vllm"]}, "usage_format_invalid", "/usage_format"),
        ({"usage_format": "openai_chat", "usage": {"input_tokens": 3}}, "unknown_usage_class",
         "/usage/input_tokens"),
        ({"usage_format": "openai_chat", "usage": {"total_tokens": 3}}, "usage_format_invalid",
         "/usage"),
        ({"usage_format": "openai_chat", "usage": {}}, "quantity_required", "/usage"),
        ({"usage_format": "openai_chat", "usage": [1]}, "wrong_type", "/usage"),
        ({"usage_format": "openai_chat", "usage": {"prompt_tokens": -1}}, "negative_quantity",
         "/usage/prompt_tokens"),
        ({"usage_format": "openai_chat", "usage": {"prompt_tokens": "5"}}, "not_an_integer",
         "/usage/prompt_tokens"),
        ({"usage_format": "openai_chat", "usage": {"prompt_tokens": True}}, "wrong_type",
         "/usage/prompt_tokens"),
        ({"usage_format": "openai_chat", "usage": {"prompt_tokens": 10**13}},
         "quantity_too_large", "/usage/input"),
        ({"usage_format": "openai_chat", "usage": {
            "prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": -2}}},
         "negative_quantity", "/usage/prompt_tokens_details/cached_tokens"),
        ({"usage_format": "openai_chat", "usage": {f"k{n}": "x" for n in range(300)}},
         "too_long", "/usage"),
        ({"usage_format": None, "usage": {"input": 5}}, None, None),
    ],
)  # fmt: skip
def test_what_is_not_of_its_format_is_rejected_in_its_place(
    fields: dict[str, Any], code: str | None, pointer: str | None
) -> None:
    body = json.dumps(make_body(**fields)).encode()
    (event,) = decode.decode(body, lines=False, now=NOW).events
    if code is None:
        assert isinstance(event, UsageEvent)
        return
    assert isinstance(event, Rejected)
    assert (event.code, event.pointer) == (code, pointer)


def test_fractions_are_no_counts() -> None:
    body = json.dumps(make_body(usage_format="vllm", usage={"prompt_tokens": 1, "queue_time": 0.2}))
    (event,) = decode.decode(body.encode(), lines=False, now=NOW).events
    assert isinstance(event, UsageEvent)
    (event,) = decode.decode(
        body.replace("queue_time", "queue_tokens").encode(), lines=False, now=NOW
    ).events
    assert isinstance(event, Rejected)
    assert event.code == "unknown_usage_class"


def test_a_key_in_raw_usage_is_not_repeated() -> None:
    key = "kt_abcdefghijkl_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v"
    for usage in ({"prompt_tokens": 1, key: 3}, {"prompt_tokens": 1, f"{key}_tokens": 3},
                  {"prompt_tokens": key}):  # fmt: skip
        with pytest.raises(Rejected) as caught:
            read(make_body(usage=usage, usage_format="vllm"), now=NOW)
        assert "A1b2C3" not in caught.value.detail + caught.value.pointer


def test_every_register_of_a_dialect_can_be_a_register() -> None:
    for dialect in DIALECTS.values():
        for row in dialect.rows:
            assert row.register is None or registers.NAME.fullmatch(row.register), row


# Whatever the numbers: what comes out adds up to what the provider says in total.

TOTAL = {"openai_chat": "total_tokens", "openai_responses": "total_tokens",
         "gemini": "totalTokenCount", "dashscope": "total_tokens", "deepseek": "total_tokens",
         "vllm": "total_tokens"}  # fmt: skip


@pytest.mark.parametrize("name", list(TOTAL))
@given(data=st.data())
def test_no_token_is_lost_and_none_is_doubled(name: str, data: st.DataObject) -> None:
    dialect = DIALECTS[name]
    paths = [row.path for row in dialect.rows if row.register and row.path != TOTAL[name]
             and row.register != "web_search"]  # fmt: skip
    counts: dict[str, Any] = data.draw(st.dictionaries(st.sampled_from(paths), st.integers(0, 50)))
    total = next(sum_ for sum_ in dialect.sums if sum_.total == TOTAL[name])
    counts[TOTAL[name]] = sum(counts.get(one, 0) for one in total.addends)
    found = read_or_code(dialect, counts)
    if isinstance(found, str):
        assert found in ("inconsistent_tokens", "usage_format_invalid")
    else:
        assert sum(found.values()) == counts[TOTAL[name]]
        assert min(found.values()) >= 0


def read_or_code(dialect: Dialect, counts: dict[str, Any]) -> dict[str, int] | str:
    try:
        return dialect.read(counts)
    except Unreadable as fault:
        return fault.code


PATHS = sorted({part for dialect in DIALECTS.values() for row in dialect.rows
                for part in (row.path, row.path.split(".")[0])} | {"iterations", "x"})  # fmt: skip
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-3, 60), st.sampled_from(["", "7", "x"]))
NONSENSE = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([*PATHS, "modality", "tokenCount", "type"]), inner),
    ),
    max_leaves=8,
)


@given(st.sampled_from(list(DIALECTS)), st.dictionaries(st.sampled_from(PATHS), NONSENSE))
def test_nonsense_is_refused_by_name(name: str, usage: dict[str, Any]) -> None:
    try:
        found = DIALECTS[name].read(usage)
    except (Unreadable, NotACount):
        return
    assert all(type(one) is int and one >= 0 for one in found.values())


def published() -> str:
    """The tables of docs/reference/dialects.md, from the code."""
    parts = []
    for dialect in DIALECTS.values():
        lines = [f"## `{dialect.name}`", "", f"{dialect.title}.", "",
                 "| count | register | counted inside |", "|---|---|---|"]  # fmt: skip
        for row in dialect.rows:
            inside = " and ".join(f"`{one}`" for one in row.inside)
            lines.append(f"| `{row.path}` | {f'`{row.register}`' if row.register else '-'} | "
                         f"{inside or '-'} |")  # fmt: skip
        lines.append("")
        lines += [
            f"`{one.total}` = {' + '.join(f'`{part}`' for part in one.addends)}  "
            for one in dialect.sums
        ]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts) + "\n"


def test_the_published_table_is_the_one_in_the_code() -> None:
    page = PAGE.read_text()
    tables = page[re.search("^## `", page, re.MULTILINE).start() :]  # type: ignore[union-attr]
    assert tables == published()


@pytest.mark.parametrize(("name", "usage", "expected"), CASES)
def test_the_python_client_reads_the_same_registers(
    name: str, usage: dict[str, Any], expected: dict[str, int]
) -> None:
    theirs = {"dashscope": "qwen"}.get(name, name)
    if theirs in client.DIALECTS and "plugins" not in usage:  # searches are not in its qwen
        assert client.read(usage, theirs).usage == expected
