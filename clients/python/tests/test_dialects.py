"""Provider by provider: what it reports, and the registers that it means."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilotoken.dialects import InconsistentUsage, UnreadableUsage, read

# dialect, what is reported, the registers
TABLE: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    # OpenAI chat: the prompt includes cached, the completion includes reasoning
    ("openai_chat", {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19},
     {"input": 12, "output": 7}),
    ("openai_chat",
     {"prompt_tokens": 1300, "completion_tokens": 420, "total_tokens": 1720,
      "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 100},
      "completion_tokens_details": {"reasoning_tokens": 300, "audio_tokens": 20,
                                    "accepted_prediction_tokens": 30,
                                    "rejected_prediction_tokens": 9}},
     {"input": 176, "cache_read": 1024, "input_audio": 100,
      "output": 100, "reasoning": 300, "output_audio": 20}),
    ("openai_chat",
     {"prompt_tokens": 5000, "completion_tokens": 0, "total_tokens": 5000,
      "prompt_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 3000,
                                "cache_write_tokens_details": {"ttl_30m_tokens": 2500,
                                                               "ttl_12h_tokens": 500}}},
     {"input": 1000, "cache_read": 1000, "cache_write": 2500, "cache_write_12h": 500, "output": 0}),
    ("openai_chat",  # realtime: what is cached told apart by medium
     {"prompt_tokens": 400, "completion_tokens": 10, "total_tokens": 410,
      "prompt_tokens_details": {"cached_tokens": 150, "audio_tokens": 200, "text_tokens": 200,
                                "cached_tokens_details": {"text_tokens": 100, "audio_tokens": 50}}},
     {"input": 100, "cache_read": 100, "cache_read_audio": 50, "input_audio": 150, "output": 10}),
    ("openai_chat", {"prompt_tokens": 8, "total_tokens": 8}, {"input": 8, "output": 0}),  # embed
    ("openai_chat",  # nulls are what SDKs make of absent members
     {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_tokens_details": None,
      "completion_tokens_details": {"reasoning_tokens": None}}, {"input": 3, "output": 2}),
    # OpenAI Responses
    ("openai_responses",
     {"input_tokens": 90, "output_tokens": 33, "total_tokens": 123,
      "input_tokens_details": {"cached_tokens": 64}, "output_tokens_details":
      {"reasoning_tokens": 11}},
     {"input": 26, "cache_read": 64, "output": 22, "reasoning": 11}),
    ("openai_responses",  # a transcription spells its breakdown in the singular
     {"type": "tokens", "input_tokens": 40, "output_tokens": 9, "total_tokens": 49,
      "input_token_details": {"text_tokens": 4, "audio_tokens": 36}},
     {"input": 4, "input_audio": 36, "output": 9}),
    # Anthropic: the input excludes cache reads and writes
    ("anthropic", {"input_tokens": 17, "output_tokens": 55}, {"input": 17, "output": 55}),
    ("anthropic",
     {"input_tokens": 17, "cache_creation_input_tokens": 700, "cache_read_input_tokens": 2048,
      "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 200},
      "output_tokens": 55, "output_tokens_details": {"thinking_tokens": 15},
      "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 1}},
     {"input": 17, "cache_read": 2048, "cache_write": 500, "cache_write_1h": 200, "output": 40,
      "reasoning": 15, "web_search": 3}),
    ("anthropic",  # not told apart: all of it is the short kind
     {"input_tokens": 1, "cache_creation_input_tokens": 700, "output_tokens": 2},
     {"input": 1, "cache_write": 700, "output": 2}),
    ("anthropic",  # compaction stands beside the totals
     {"input_tokens": 10, "output_tokens": 5, "iterations": [
         {"type": "compaction", "input_tokens": 900, "output_tokens": 60},
         {"type": "message", "input_tokens": 10, "output_tokens": 5}]},
     {"input": 910, "output": 65}),
    # Gemini: the prompt includes cached content, thoughts and tool prompts stand beside
    ("gemini",
     {"promptTokenCount": 800, "cachedContentTokenCount": 300, "candidatesTokenCount": 90,
      "thoughtsTokenCount": 210, "toolUsePromptTokenCount": 40, "totalTokenCount": 1140},
     {"input": 500, "cache_read": 300, "output": 90, "reasoning": 210, "tool_use": 40}),
    ("gemini",  # as the SDK says it, with media, some of them cached
     {"prompt_token_count": 1000, "cached_content_token_count": 400, "candidates_token_count": 50,
      "total_token_count": 1050,
      "prompt_tokens_details": [{"modality": "TEXT", "token_count": 500},
                                {"modality": "AUDIO", "token_count": 300},
                                {"modality": "IMAGE", "token_count": 200}],
      "cache_tokens_details": [{"modality": "TEXT", "token_count": 300},
                               {"modality": "AUDIO", "token_count": 100}]},
     {"input": 200, "cache_read": 300, "cache_read_audio": 100, "input_audio": 200,
      "input_image": 200, "output": 50}),
    # Qwen, compatible mode: reads and writes of the cache are inside the prompt
    ("qwen",
     {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100,
      "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_input_tokens": 1500,
                                "cache_creation": {"ephemeral_5m_input_tokens": 1500},
                                "cache_type": "ephemeral"},
      "completion_tokens_details": {"reasoning_tokens": 60, "text_tokens": 40}},
     {"input": 500, "cache_write": 1500, "output": 40, "reasoning": 60}),
    ("qwen",  # DashScope's own names
     {"input_tokens": 1250, "output_tokens": 34, "total_tokens": 1284, "image_tokens": 1200,
      "input_tokens_details": {"image_tokens": 1200, "text_tokens": 50},
      "prompt_tokens_details": {"cached_tokens": 0},
      "output_tokens_details": {"text_tokens": 34}},
     {"input": 50, "input_image": 1200, "output": 34}),
    # DeepSeek: hits and misses
    ("deepseek",
     {"prompt_tokens": 900, "prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 260,
      "prompt_tokens_details": {"cached_tokens": 640}, "completion_tokens": 120,
      "total_tokens": 1020, "completion_tokens_details": {"reasoning_tokens": 80}},
     {"input": 260, "cache_read": 640, "output": 40, "reasoning": 80}),
    # vLLM
    ("vllm", {"prompt_tokens": 31, "total_tokens": 51, "completion_tokens": 20,
              "prompt_tokens_details": None}, {"input": 31, "output": 20}),
    ("vllm", {"prompt_tokens": 31, "total_tokens": 51, "completion_tokens": 20,
              "prompt_tokens_details": {"cached_tokens": 16}},
     {"input": 15, "cache_read": 16, "output": 20}),
    # LiteLLM about Anthropic: everything inside the prompt, writes said three times
    ("litellm",
     {"prompt_tokens": 2765, "completion_tokens": 55, "total_tokens": 2820,
      "cache_creation_input_tokens": 700, "cache_read_input_tokens": 2048,
      "prompt_tokens_details": {"cached_tokens": 2048, "cache_creation_tokens": 700,
                                "cache_write_tokens": 700, "cache_creation_token_details":
                                {"ephemeral_5m_input_tokens": 500,
                                 "ephemeral_1h_input_tokens": 200}}},
     {"input": 17, "cache_read": 2048, "cache_write": 500, "cache_write_1h": 200, "output": 55}),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "reported", "registers"), TABLE)
def test_each_dialect_means_these_registers(
    dialect: str, reported: dict[str, Any], registers: dict[str, int]
) -> None:
    measured = read(reported, dialect)
    assert measured.usage == registers
    assert measured.unknown == ()


@pytest.mark.parametrize(("dialect", "reported", "registers"), TABLE)
def test_the_shape_of_usage_tells_its_dialect(
    dialect: str, reported: dict[str, Any], registers: dict[str, int]
) -> None:
    if dialect != "litellm":  # which no shape tells from OpenAI's
        assert read(reported).usage == registers


@pytest.mark.parametrize(
    ("dialect", "reported", "said"),
    [
        ("openai_chat", {"prompt_tokens": 10, "completion_tokens": 5,
                         "prompt_tokens_details": {"cached_tokens": 11}}, "11, more than its 10"),
        ("openai_chat", {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 99},
         "15 != 99"),
        ("openai_chat", {"prompt_tokens": 10, "completion_tokens": 5,
                         "completion_tokens_details": {"reasoning_tokens": 6}}, "more than its 5"),
        ("openai_chat", {"prompt_tokens": -1, "completion_tokens": 5}, "-1, no count"),
        ("openai_chat", {"prompt_tokens": 1.5, "completion_tokens": 5}, "1.5, no count"),
        ("openai_chat", {"prompt_tokens": True, "completion_tokens": 5}, "True, no count"),
        ("openai_chat", {"prompt_tokens": 100, "completion_tokens": 0,
                         "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 0,
                         "cached_tokens_details": {"audio_tokens": 11}}}, "11 is more than"),
        ("anthropic", {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 700,
                       "cache_creation": {"ephemeral_5m_input_tokens": 500,
                                          "ephemeral_1h_input_tokens": 100}}, "600 != 700"),
        ("anthropic", {"input_tokens": 1, "output_tokens": 1,
                       "output_tokens_details": {"thinking_tokens": 2}}, "2, more than its 1"),
        ("deepseek", {"prompt_tokens": 900, "prompt_cache_hit_tokens": 640,
                      "prompt_cache_miss_tokens": 261, "completion_tokens": 1}, "901 != 900"),
        ("gemini", {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 2,
                    "totalTokenCount": 15}, "17 != 15"),
        ("gemini", {"promptTokenCount": 10, "cachedContentTokenCount": 5, "cacheTokensDetails":
                    [{"modality": "AUDIO", "tokenCount": 5}]}, "5 cached audio"),
    ],
)  # fmt: skip
def test_numbers_that_contradict_each_other_are_named_and_never_clamped(
    dialect: str, reported: dict[str, Any], said: str
) -> None:
    with pytest.raises(InconsistentUsage, match=said) as caught:
        read(reported, dialect)
    assert caught.value.shown  # the numbers go with it


@pytest.mark.parametrize(
    ("dialect", "reported", "registers", "unknown"),
    [
        ("openai_chat", {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
                         "prompt_tokens_details": {"smell_tokens": 40}},
         {"input": 60, "input_smell": 40, "output": 10}, ("input_smell",)),
        ("openai_chat", {"prompt_tokens": 100, "completion_tokens": 10, "surcharge_tokens": 3},
         {"input": 100, "output": 10}, ("surcharge_tokens",)),
        ("anthropic", {"input_tokens": 1, "output_tokens": 10, "output_tokens_details":
                       {"dream_tokens": 4}, "ghost_tokens": 9},
         {"input": 1, "output": 6, "output_dream": 4}, ("output_dream", "ghost_tokens")),
        ("anthropic", {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 9,
                       "cache_creation": {"ephemeral_5m_input_tokens": 4,
                                          "ephemeral_24h_input_tokens": 5}},
         {"input": 1, "output": 1, "cache_write": 4, "cache_write_24h": 5}, ("cache_write_24h",)),
        ("gemini", {"promptTokenCount": 10, "promptTokensDetails":
                    [{"modality": "SMELL", "tokenCount": 4}]},
         {"input": 6, "input_smell": 4, "output": 0}, ("smell",)),
    ],
)  # fmt: skip
def test_an_unknown_class_is_kept_apart_or_reported_and_never_becomes_input(
    dialect: str, reported: dict[str, Any], registers: dict[str, int], unknown: tuple[str, ...]
) -> None:
    measured = read(reported, dialect)
    assert measured.usage == registers
    assert measured.unknown == unknown


@pytest.mark.parametrize("reported", [{}, {"tokens": 5}, {"completion_tokens": 5}])
def test_usage_of_no_known_shape_is_refused(reported: dict[str, Any]) -> None:
    with pytest.raises(UnreadableUsage):
        read(reported)


def test_what_is_no_usage_object_is_refused() -> None:
    with pytest.raises(UnreadableUsage):
        read(7)
    with pytest.raises(UnreadableUsage, match="no dialect"):
        read({"prompt_tokens": 1}, "klingon")


# However the parts fall, the registers sum to what the provider says in total.

counts = st.integers(0, 10**9)
parts = st.lists(counts, min_size=4, max_size=4)


@given(parts, parts)
def test_registers_of_openai_sum_to_the_total(prompt: list[int], made: list[int]) -> None:
    usage = {
        "prompt_tokens": sum(prompt), "completion_tokens": sum(made),
        "total_tokens": sum(prompt) + sum(made),
        "prompt_tokens_details": {"cached_tokens": prompt[0], "audio_tokens": prompt[1],
                                  "novel_tokens": prompt[2]},
        "completion_tokens_details": {"reasoning_tokens": made[0], "audio_tokens": made[1],
                                      "accepted_prediction_tokens": made[2]},
    }  # fmt: skip
    assert sum(read(usage).usage.values()) == usage["total_tokens"]


@given(parts, counts)
def test_registers_of_anthropic_sum_to_all_its_classes(sent: list[int], made: int) -> None:
    usage = {
        "input_tokens": sent[0], "cache_read_input_tokens": sent[1], "output_tokens": made,
        "cache_creation_input_tokens": sent[2] + sent[3],
        "cache_creation": {"ephemeral_5m_input_tokens": sent[2],
                           "ephemeral_1h_input_tokens": sent[3]},
    }  # fmt: skip
    assert sum(read(usage).usage.values()) == sum(sent) + made


@given(parts, parts, counts)
def test_registers_of_gemini_sum_to_the_total(
    fresh: list[int], cached: list[int], beside: int
) -> None:
    modes = ("TEXT", "AUDIO", "IMAGE", "VIDEO")
    usage = {
        "promptTokenCount": sum(fresh) + sum(cached), "cachedContentTokenCount": sum(cached),
        "thoughtsTokenCount": beside, "candidatesTokenCount": 3, "toolUsePromptTokenCount": 2,
        "totalTokenCount": sum(fresh) + sum(cached) + beside + 5,
        "promptTokensDetails": [{"modality": mode, "tokenCount": a + b}
                                for mode, a, b in zip(modes, fresh, cached, strict=True)],
        "cacheTokensDetails": [{"modality": mode, "tokenCount": b}
                               for mode, b in zip(modes, cached, strict=True)],
    }  # fmt: skip
    assert sum(read(usage).usage.values()) == usage["totalTokenCount"]


@given(counts, counts, parts)
def test_registers_of_deepseek_and_qwen_sum_to_the_total(
    hit: int, miss: int, made: list[int]
) -> None:
    total = hit + miss + made[0] + made[1]
    same = {
        "prompt_tokens": hit + miss,
        "completion_tokens": made[0] + made[1],
        "total_tokens": total,
        "completion_tokens_details": {"reasoning_tokens": made[0]},
    }
    deepseek = {**same, "prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": miss}
    qwen = {**same, "prompt_tokens_details": {"cache_creation_input_tokens": hit}}
    assert sum(read(deepseek).usage.values()) == total
    assert sum(read(qwen, "qwen").usage.values()) == total


NAMES = [
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
    "cache_read_input_tokens", "prompt_cache_hit_tokens", "prompt_tokens_details", "iterations",
    "promptTokensDetails",
]  # fmt: skip
NONSENSE = st.one_of(st.none(), st.integers(-2, 50), st.sampled_from([0.5, "", "5", [3], {}]))


@given(st.dictionaries(st.sampled_from(NAMES), NONSENSE))
def test_nonsense_is_refused_by_name_and_nothing_is_negative(usage: dict[str, Any]) -> None:
    try:
        measured = read(usage)
    except UnreadableUsage:
        return
    assert all(type(quantity) is int and quantity >= 0 for quantity in measured.usage.values())
