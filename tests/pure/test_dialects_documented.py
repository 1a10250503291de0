"""Usage as the providers' own types and pages document it, each case with where that is said.

All sources were looked up on 2026-11-24. Where a source has numbers they are its own; where it has
only fields and what they mean, the numbers are ours and every field of it is filled.
"""

from __future__ import annotations

from typing import Any

import pytest
from kilotoken import dialects as client

from metering.usage import registers
from metering.usage.bands import attributes
from metering.usage.dialects import DIALECTS
from metering.usage.dialects.table import Unreadable

OPENAI = "openai/openai-python src/openai/types/"
ANTHROPIC = "anthropics/anthropic-sdk-python src/anthropic/types/"
AZURE = ("https://learn.microsoft.com/javascript/api/@azure/ai-projects/"
         "responseusageinputtokensdetails")  # fmt: skip
GEMINI = "googleapis/kotlin-genai types.GenerateContentResponseUsageMetadata"
QWEN = "https://docs.qwencloud.com/developer-guides/text-generation/quickstart"
QWEN_RESPONSES = "Model Studio, from Chat Completions to the Responses API (public copy)"
QWEN_OCR = "Model Studio, Qwen-OCR, response of DashScope (public copy)"
DEEPSEEK = "https://api-docs.deepseek.com/api/create-chat-completion (quoted by ai-dynamo/aiperf)"
VLLM = "https://docs.vllm.ai/en/latest/api/vllm/entrypoints/serve/engine/protocol/"
OTEL = "open-telemetry/semantic-conventions-genai model/gen-ai/registry.yaml"
OTEL_LATER = "opentelemetry-util-genai, the names its inference invocation sets"

CASES: list[tuple[str, str, dict[str, Any], dict[str, int]]] = [
    ("openai_chat", OPENAI + "completion_usage.py",
     {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 160,
      "prompt_tokens_details": {"audio_tokens": 20, "cached_tokens": 30},
      "completion_tokens_details": {"accepted_prediction_tokens": 4, "audio_tokens": 10,
                                    "reasoning_tokens": 15, "rejected_prediction_tokens": 2}},
     {"input": 50, "cache_read": 30, "input_audio": 20, "output": 35, "reasoning": 15,
      "output_audio": 10}),
    ("openai_responses", OPENAI + "responses/response_usage.py",
     {"input_tokens": 328, "input_tokens_details": {"cached_tokens": 128}, "output_tokens": 52,
      "output_tokens_details": {"reasoning_tokens": 40}, "total_tokens": 380},
     {"input": 200, "cache_read": 128, "output": 12, "reasoning": 40}),
    ("openai_responses", AZURE,
     {"input_tokens": 2000, "output_tokens": 5, "total_tokens": 2005,
      "input_tokens_details": {"cached_tokens": 1500, "cache_write_tokens": 350}},
     {"input": 150, "cache_read": 1500, "cache_write": 350, "output": 5}),
    # cached tokens are "a subset of input tokens", and told apart by medium
    ("openai_responses", OPENAI + "realtime/realtime_response_usage_input_token_details.py",
     {"input_tokens": 220, "output_tokens": 80, "total_tokens": 300,
      "input_token_details": {
          "audio_tokens": 90, "image_tokens": 60, "text_tokens": 70, "cached_tokens": 100,
          "cached_tokens_details": {"audio_tokens": 40, "image_tokens": 50, "text_tokens": 10}},
      "output_token_details": {"audio_tokens": 75, "text_tokens": 5}},
     {"input": 60, "input_audio": 50, "input_image": 10, "cache_read": 10, "cache_read_audio": 40,
      "cache_read_image": 50, "output": 5, "output_audio": 75}),
    ("openai_responses", OPENAI + "images_response.py",
     {"input_tokens": 50, "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
      "output_tokens": 196, "total_tokens": 246},
     {"input": 10, "input_image": 40, "output": 196}),
    # output_tokens "remains the inclusive, authoritative total"
    ("anthropic", ANTHROPIC + "usage.py, cache_creation.py, output_tokens_details.py, "
                  "server_tool_usage.py",
     {"cache_creation": {"ephemeral_1h_input_tokens": 30, "ephemeral_5m_input_tokens": 70},
      "cache_creation_input_tokens": 100, "cache_read_input_tokens": 500, "inference_geo": "us",
      "input_tokens": 20, "output_tokens": 90, "output_tokens_details": {"thinking_tokens": 60},
      "server_tool_use": {"web_fetch_requests": 2, "web_search_requests": 3},
      "service_tier": "priority"},
     {"input": 20, "cache_read": 500, "cache_write": 70, "cache_write_1h": 30, "output": 30,
      "reasoning": 60, "web_search": 3}),
    ("anthropic", ANTHROPIC + "beta/beta_usage.py, beta_compaction_iteration_usage.py",
     {"input_tokens": 23_000, "output_tokens": 1000, "speed": "standard", "iterations": [
         {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500,
          "cache_read_input_tokens": 40, "cache_creation_input_tokens": 9,
          "cache_creation": {"ephemeral_1h_input_tokens": 9, "ephemeral_5m_input_tokens": 0}},
         {"type": "message", "input_tokens": 23_000, "output_tokens": 1000,
          "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}]},
     {"input": 203_000, "output": 4500, "cache_read": 40, "cache_write_1h": 9}),
    # the total is the sum of prompt, candidates, tool use prompt and thoughts
    ("gemini", GEMINI,
     {"prompt_token_count": 1000, "cached_content_token_count": 350,
      "candidates_token_count": 130, "thoughts_token_count": 25,
      "tool_use_prompt_token_count": 45, "total_token_count": 1200, "traffic_type": "ON_DEMAND",
      "prompt_tokens_details": [{"modality": "TEXT", "token_count": 100},
                                {"modality": "IMAGE", "token_count": 200},
                                {"modality": "VIDEO", "token_count": 300},
                                {"modality": "DOCUMENT", "token_count": 400}],
      "cache_tokens_details": [{"modality": "IMAGE", "token_count": 50},
                               {"modality": "VIDEO", "token_count": 100},
                               {"modality": "DOCUMENT", "token_count": 200}],
      "candidates_tokens_details": [{"modality": "TEXT", "token_count": 30},
                                    {"modality": "IMAGE", "token_count": 100}],
      "tool_use_prompt_tokens_details": [{"modality": "TEXT", "token_count": 45}]},
     {"input": 100, "input_image": 150, "input_video": 200, "input_document": 200,
      "cache_read_image": 50, "cache_read_video": 100, "cache_read_document": 200, "output": 30,
      "output_image": 100, "reasoning": 25, "tool_use": 45}),
    # the Responses API repeats the totals in x_details, by how they are billed
    ("dashscope", QWEN,
     {"input_tokens": 54, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 662,
      "output_tokens_details": {"reasoning_tokens": 447}, "total_tokens": 716,
      "x_details": [{"input_tokens": 54, "output_tokens": 662,
                     "output_tokens_details": {"reasoning_tokens": 447}, "total_tokens": 716,
                     "x_billing_type": "response_api"}]},
     {"input": 54, "output": 215, "reasoning": 447}),
    ("dashscope", QWEN, {"total_tokens": 92, "output_tokens": 66, "input_tokens": 26},
     {"input": 26, "output": 66}),
    ("dashscope", QWEN_RESPONSES,
     {"input_tokens": 120, "output_tokens": 30, "total_tokens": 150,
      "x_tools": {"web_search": {"count": 1}}},
     {"input": 120, "output": 30, "web_search": 1}),
    ("dashscope", QWEN_OCR,
     {"input_tokens_details": {"text_tokens": 33, "image_tokens": 1377}, "total_tokens": 1448,
      "output_tokens": 38, "input_tokens": 1410, "output_tokens_details": {"text_tokens": 38},
      "image_tokens": 1377},
     {"input": 33, "input_image": 1377, "output": 38}),
    ("deepseek", DEEPSEEK,
     {"prompt_tokens": 102_056, "completion_tokens": 252, "total_tokens": 102_308,
      "prompt_cache_hit_tokens": 94_464, "prompt_cache_miss_tokens": 7592,
      "prompt_tokens_details": {"cached_tokens": 94_464},
      "completion_tokens_details": {"reasoning_tokens": 44}},
     {"input": 7592, "cache_read": 94_464, "output": 208, "reasoning": 44}),
    # "a breakdown of the multimodal placeholder tokens already counted in prompt_tokens"
    ("vllm", VLLM,
     {"prompt_tokens": 900, "total_tokens": 950, "completion_tokens": 50,
      "prompt_tokens_details": {"cached_tokens": 160, "created_cache_tokens": 736,
                                "multimodal_tokens": {"image": 400, "audio": 100, "video": 40}}},
     {"input": 200, "cache_read": 160, "input_image": 400, "input_audio": 100, "input_video": 40,
      "output": 50}),
    ("opentelemetry", OTEL,
     {"input_tokens": 100, "cache_read.input_tokens": 20, "cache_creation.input_tokens": 10,
      "text.input_tokens": 30, "image.input_tokens": 40, "audio.input_tokens": 10,
      "video.input_tokens": 20, "output_tokens": 180, "reasoning.output_tokens": 50,
      "text.output_tokens": 120, "audio.output_tokens": 10},
     {"input": 0, "cache_read": 20, "cache_write": 10, "input_image": 40, "input_audio": 10,
      "input_video": 20, "output": 120, "reasoning": 50, "output_audio": 10}),
    # 100 text tokens, 40 of them cached, and 200 of an image
    ("opentelemetry", OTEL_LATER,
     {"input_tokens": 300, "cache_read.input_tokens": 40, "text.input_tokens": 100,
      "text.cache_read.input_tokens": 40, "image.input_tokens": 200, "output_tokens": 0},
     {"input": 60, "cache_read": 40, "input_image": 200, "output": 0}),
    ("opentelemetry", OTEL_LATER,
     {"input_tokens": 300, "cache_read.input_tokens": 90, "cache_write.input_tokens": 25,
      "audio.input_tokens": 60, "audio.cache_read.input_tokens": 50, "image.input_tokens": 45,
      "image.cache_read.input_tokens": 30, "output_tokens": 180, "image.output_tokens": 20},
     {"input": 160, "cache_read": 10, "cache_read_audio": 50, "cache_read_image": 30,
      "cache_write": 25, "input_audio": 10, "input_image": 15, "output": 160,
      "output_image": 20}),
]  # fmt: skip
IDS = [f"{name}: {source}" for name, source, _, _ in CASES]


@pytest.mark.parametrize(("name", "source", "usage", "expected"), CASES, ids=IDS)
def test_usage_means_what_its_provider_documents(
    name: str, source: str, usage: dict[str, Any], expected: dict[str, int]
) -> None:
    assert DIALECTS[name].read(usage) == expected, source


@pytest.mark.parametrize(("name", "source", "usage", "expected"), CASES, ids=IDS)
def test_whatever_a_provider_documents_has_a_name_for_people(
    name: str, source: str, usage: dict[str, Any], expected: dict[str, int]
) -> None:
    assert expected.keys() <= registers.KNOWN.keys(), source


@pytest.mark.parametrize(("name", "source", "usage", "expected"), CASES, ids=IDS)
def test_the_python_client_says_the_same(
    name: str, source: str, usage: dict[str, Any], expected: dict[str, int]
) -> None:
    theirs = {"dashscope": "qwen"}.get(name, name)
    if theirs in client.DIALECTS and "x_tools" not in usage:  # searches are not in its qwen
        assert client.read(usage, theirs).usage == expected, source


# Documented as well, and refused by name: it is of another model, or nobody says what it adds to.
REFUSED: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("anthropic", ANTHROPIC + "beta/beta_advisor_message_iteration_usage.py",
     {"input_tokens": 412, "output_tokens": 1230, "iterations": [
         {"type": "advisor_message", "model": "m", "input_tokens": 823, "output_tokens": 531}]},
     "iterations.0", "tokens of another model"),
    ("anthropic", ANTHROPIC + "beta/beta_fallback_message_iteration_usage.py",
     {"input_tokens": 9, "output_tokens": 2, "iterations": [
         {"type": "message", "input_tokens": 9, "output_tokens": 0},
         {"type": "fallback_message", "model": "m", "input_tokens": 9, "output_tokens": 2}]},
     "iterations.1", "tokens of another model"),
    ("dashscope", QWEN,
     {"input_tokens": 9, "output_tokens": 2, "x_details": [
         {"input_tokens": 4, "output_tokens": 1}, {"input_tokens": 5, "output_tokens": 1}]},
     "x_details", "How several share the totals"),
    ("dashscope", QWEN, {"input_tokens": 9, "output_tokens": 2, "x_details": 7},
     "x_details", "where it holds one entry"),
    ("dashscope", QWEN_RESPONSES,
     {"input_tokens": 9, "output_tokens": 2, "x_tools": {"web_extractor": {"count": 1}}},
     "x_tools.web_extractor.count", "counted nowhere"),
    ("dashscope", QWEN,
     {"input_tokens": 54, "output_tokens": 6, "x_details": [{"input_tokens": 55}]},
     "x_details.0.input_tokens", "also reported as 54"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "usage", "path", "said"), REFUSED)
def test_what_has_no_one_meaning_is_refused_in_its_place(
    name: str, source: str, usage: dict[str, Any], path: str, said: str
) -> None:
    with pytest.raises(Unreadable) as caught:
        DIALECTS[name].read(usage)
    assert caught.value.path == path, source
    assert said in caught.value.detail


@pytest.mark.parametrize("how", ["input", "cache_read"])
@pytest.mark.parametrize("medium", ["audio", "document", "image", "video"])
def test_every_medium_that_went_in_is_media_input_cached_or_not(how: str, medium: str) -> None:
    assert attributes({"input": 5, f"{how}_{medium}": 1}) == ("media_input",)
