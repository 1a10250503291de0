"""The real LiteLLM, in a process of its own: 228 MB, and it wants an older openai package.

uv venv /tmp/litellm && uv pip install --python /tmp/litellm/bin/python litellm
LITELLM_PYTHON=/tmp/litellm/bin/python pytest clients/python/tests/test_litellm.py
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kilotoken import Meter
from kilotoken.litellm_callback import offer_call
from kilotoken_fake import FakeKilotoken
from provider_fake import CHAT_REGISTERS, CHAT_USAGE, MESSAGE_REGISTERS, FakeProvider
from waiting import KEY, SOURCES

PYTHON = os.environ.get("LITELLM_PYTHON", sys.executable)
BEGIN = """
import asyncio, sys, litellm
from kilotoken import Meter
from kilotoken.litellm_callback import callback
url, provider, key, spool = sys.argv[1:]
meter = Meter(url, key, source="tests", spool=spool, wait_s=10)
litellm.callbacks = [callback(meter)]
ASK = {"messages": [{"role": "user", "content": "What is sold?"}], "api_key": "x"}
"""


@pytest.fixture
def run_litellm(
    server: FakeKilotoken, provider: FakeProvider, tmp_path: Path
) -> Callable[[str], None]:
    if sys.executable == PYTHON and importlib.util.find_spec("litellm") is None:
        pytest.skip("litellm is not installed (228 MB); LITELLM_PYTHON may name one that has it")

    def run(script: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(SOURCES),
                       "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # fmt: skip
        arguments = [server.url, provider.url, KEY, str(tmp_path / "spool")]
        subprocess.run([PYTHON, "-c", BEGIN + script, *arguments], env=environment, check=True,
                       timeout=60)  # fmt: skip

    return run


def test_completions_and_streams_are_metered_once_each(
    run_litellm: Callable[[str], None], server: FakeKilotoken
) -> None:
    run_litellm("""
where = {"api_base": f"{provider}/v1", "model": "openai/gpt-x", **ASK}
streams = {"stream": True, "stream_options": {"include_usage": True}}
litellm.completion(**where, metadata={"kilotoken": {"session": "run-7"}})
for _ in litellm.completion(**where, **streams):
    pass

async def work():
    await litellm.acompletion(**where)
    async for _ in await litellm.acompletion(**where, **streams):
        pass
    for _ in range(200):  # LiteLLM tells its callbacks in its own time
        if meter.counts.spooled >= 4:
            break
        await asyncio.sleep(0.05)

asyncio.run(work())
""")
    assert [event["usage"] for event in server.events] == [CHAT_REGISTERS] * 4
    assert {event.get("session") for event in server.events} == {"run-7", None}
    assert sum(len(got.ids) for got in server.got) == 4


def test_anthropic_through_litellm_has_the_registers_of_anthropic(
    run_litellm: Callable[[str], None], server: FakeKilotoken
) -> None:
    run_litellm("""
litellm.completion(model="anthropic/claude-x", api_base=provider, **ASK)
""")
    assert [event["usage"] for event in server.events] == [MESSAGE_REGISTERS]


# Without LiteLLM: what it hands over, by the book.


def told(meter: Meter, response: Any, **kwargs: Any) -> Any:
    given = {"model": "m", "litellm_call_id": "call-1", **kwargs}
    return offer_call(meter, given, response, datetime(2026, 11, 18, 10, 7), cache_hits=False)


def test_a_call_told_twice_counts_once_and_its_naive_time_is_local(
    meter: Meter, server: FakeKilotoken
) -> None:
    for _ in range(2):
        assert told(meter, SimpleNamespace(usage=CHAT_USAGE, service_tier="flex"))
    assert meter.flush(10)
    (event,) = server.events
    local = datetime(2026, 11, 18, 10, 7).astimezone(timezone.utc)
    assert event["occurred_at"] == local.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert (event["id"], event["service_class"], event["usage"]) == ("call-1", "flex",
                                                                     CHAT_REGISTERS)  # fmt: skip
    assert meter.counts.duplicate == 1


def test_chunks_and_answers_from_the_cache_are_no_usage(meter: Meter) -> None:
    assert told(meter, SimpleNamespace(usage=None), stream=True) is None
    assert told(meter, SimpleNamespace(usage=CHAT_USAGE), cache_hit=True) is None
    assert str(meter.counts) == "nothing yet"


def test_a_call_without_usage_is_set_aside(meter: Meter) -> None:
    assert told(meter, {"usage": None}) is None
    assert meter.counts.unmeasured == 1
