"""The real `openai` SDK, metered by one line, talking to an endpoint on loopback."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from kilotoken import Meter, by_characters, labels
from kilotoken_fake import FakeKilotoken
from provider_fake import CHAT_REGISTERS, RESPONSES_REGISTERS, WORDS, FakeProvider
from waiting import eventually

openai = pytest.importorskip("openai", reason="the openai package is not installed")

ASK: dict[str, Any] = {"model": "gpt-x", "messages": [{"role": "user", "content": "What is sold?"}]}
SAID = "".join(WORDS)


@pytest.fixture
def client(provider: FakeProvider, meter: Meter) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-x", max_retries=0) as made:
        yield meter.wrap(made)


def in_async(
    provider: FakeProvider, meter: Meter, work: Callable[[Any], Any], **options: Any
) -> Any:
    async def run() -> Any:
        async with openai.AsyncOpenAI(
            base_url=f"{provider.url}/v1", api_key="sk-x", max_retries=0
        ) as client:
            return await work(meter.wrap(client, **options))

    return asyncio.run(run())


def sent(meter: Meter, server: FakeKilotoken) -> dict[str, Any]:
    """The one event there is."""
    eventually(lambda: meter.flush(10) and server.events)
    (event,) = server.events
    return event


def text(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_completion_is_metered_and_comes_back_as_it_is(
    client: Any, meter: Meter, server: FakeKilotoken, provider: FakeProvider
) -> None:
    before = meter.now()
    answer = client.chat.completions.create(**ASK)
    assert type(answer).__name__ == "ChatCompletion"
    assert answer.choices[0].message.content == SAID
    event = sent(meter, server)
    assert event["usage"] == CHAT_REGISTERS
    assert event["model"] == "gpt-x-2026-09-01"  # what served, not what was asked for
    assert event["service_class"] == "flex"
    assert before <= datetime.fromisoformat(event["occurred_at"].replace("Z", "+00:00"))
    assert provider.asked == [ASK]


def test_a_stream_is_metered_without_showing_the_chunk_nobody_asked_for(
    client: Any, meter: Meter, server: FakeKilotoken, provider: FakeProvider
) -> None:
    stream = client.chat.completions.create(**ASK, stream=True)
    assert isinstance(stream, openai.Stream)
    chunks = list(stream)
    assert text(chunks) == SAID
    assert all(chunk.choices for chunk in chunks)
    assert sent(meter, server)["usage"] == CHAT_REGISTERS
    assert provider.asked[0]["stream_options"] == {"include_usage": True}


def test_a_caller_who_asks_for_usage_sees_it(
    client: Any, meter: Meter, server: FakeKilotoken
) -> None:
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options=options))
    assert chunks[-1].usage.total_tokens == 1720
    assert options == {"include_usage": True}
    assert sent(meter, server)["usage"] == CHAT_REGISTERS


def test_a_caller_who_refuses_usage_is_obeyed_and_the_call_is_not_silently_unmetered(
    client: Any, meter: Meter, provider: FakeProvider,
    letters: Callable[[], list[dict[str, Any]]],
) -> None:  # fmt: skip
    list(client.chat.completions.create(**ASK, stream=True,
                                        stream_options={"include_usage": False}))  # fmt: skip
    assert provider.asked[0]["stream_options"] == {"include_usage": False}
    assert meter.counts.unmeasured == 1
    assert letters()[0]["code"] == "usage_not_reported"
    assert SAID not in str(letters())


def test_other_stream_options_of_the_caller_stay(client: Any, provider: FakeProvider) -> None:
    options = {"include_obfuscation": False}
    list(client.chat.completions.create(**ASK, stream=True, stream_options=options))
    assert provider.asked[0]["stream_options"] == {
        "include_obfuscation": False,
        "include_usage": True,
    }
    assert options == {"include_obfuscation": False}


def test_an_endpoint_that_knows_no_stream_options_is_not_asked(
    provider: FakeProvider, meter: Meter
) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-x") as client:
        meter.wrap(client, ask_for_usage=False)
        list(client.chat.completions.create(**ASK, stream=True))
    assert "stream_options" not in provider.asked[0]


@pytest.mark.parametrize("way", ["close", "with", "collected", "cut"])
def test_an_interrupted_stream_is_estimated_only_if_that_was_asked_for(
    provider: FakeProvider, make_meter: Callable[..., Meter], server: FakeKilotoken, way: str,
    letters: Callable[[], list[dict[str, Any]]],
) -> None:  # fmt: skip
    meter = make_meter()
    provider.cut_after = 2 if way == "cut" else None
    for estimate in (None, by_characters):
        with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="x", max_retries=0) as client:
            read_two(meter.wrap(client, estimate=estimate), way)
    gc.collect()
    event = sent(meter, server)
    assert event["id"].startswith("estimated.")
    assert event["usage"] == {"input": 4, "output": 3 if way != "cut" else 4}
    assert (meter.counts.estimated, meter.counts.unmeasured) == (1, 1)
    assert letters()[0]["code"] == "usage_not_reported"


@pytest.mark.parametrize("managed", [False, True])
def test_a_closed_stream_is_recorded_at_once_though_somebody_still_holds_it(
    client: Any, meter: Meter, managed: bool
) -> None:
    if managed:
        with client.chat.completions.stream(**ASK) as stream:
            next(iter(stream))
    else:
        stream = client.chat.completions.create(**ASK, stream=True)
        next(stream)
        stream.close()
    assert meter.counts.unmeasured == 1
    del stream


def read_two(client: Any, way: str) -> None:
    stream = client.chat.completions.create(**ASK, stream=True)
    if way == "with":
        with stream:
            next(stream), next(stream)
    elif way == "cut":
        assert len(list(stream)) == 3
    else:
        next(stream), next(stream)
        if way == "close":
            stream.close()


def test_stream_and_parse_are_metered_once(
    client: Any, meter: Meter, server: FakeKilotoken
) -> None:
    with client.chat.completions.stream(**ASK) as stream:
        assert stream.get_final_completion().choices[0].message.content == SAID
    assert sent(meter, server)["usage"] == CHAT_REGISTERS
    client.chat.completions.parse(**ASK)
    assert meter.flush(10)
    assert meter.counts.accepted == 2


def test_raw_responses_are_metered_parsed_or_not(
    client: Any, meter: Meter, server: FakeKilotoken
) -> None:
    raw = client.chat.completions.with_raw_response.create(**ASK)
    assert raw.headers["content-type"] == "application/json"
    assert meter.counts.spooled == 1
    assert raw.parse().choices[0].message.content == SAID
    streamed = client.chat.completions.with_raw_response.create(**ASK, stream=True)
    assert text(streamed.parse()) == SAID
    with client.chat.completions.with_streaming_response.create(**ASK) as response:
        assert response.parse().choices[0].message.content == SAID
    assert meter.flush(10)
    assert [event["usage"] for event in server.events] == [CHAT_REGISTERS] * 3
    assert meter.counts.unmeasured == 0


def test_responses_are_metered_streams_included(
    client: Any, meter: Meter, server: FakeKilotoken
) -> None:
    assert client.responses.create(model="gpt-x", input="What?").output_text == SAID
    kinds = [event.type for event in
             client.responses.create(model="gpt-x", input="What?", stream=True)]  # fmt: skip
    assert kinds[-1] == "response.completed"
    with client.responses.stream(model="gpt-x", input="What?") as stream:
        assert stream.get_final_response().output_text == SAID
    assert meter.flush(10)
    assert [event["usage"] for event in server.events] == [RESPONSES_REGISTERS] * 3


def test_embeddings_are_metered(client: Any, meter: Meter, server: FakeKilotoken) -> None:
    client.embeddings.create(model="embed-x", input="What?", encoding_format="float")
    assert sent(meter, server)["usage"] == {"input": 8, "output": 0}


def test_a_copy_of_the_client_is_metered_too(
    client: Any, meter: Meter, server: FakeKilotoken
) -> None:
    client.with_options(timeout=5).chat.completions.create(**ASK)
    assert sent(meter, server)["usage"] == CHAT_REGISTERS


def test_wrapping_twice_meters_once(client: Any, meter: Meter, server: FakeKilotoken) -> None:
    meter.wrap(client)
    client.chat.completions.create(**ASK)
    assert sent(meter, server)


def test_labels_and_response_ids_reach_the_event(
    provider: FakeProvider, meter: Meter, server: FakeKilotoken
) -> None:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="sk-x") as client:
        meter.wrap(client, response_ids=True, region="eu-1", agent="planner")
        with labels(session="run-7", agent="writer"):
            stream = client.chat.completions.create(**ASK, stream=True)
        list(stream)  # read outside of the block that asked for it
    event = sent(meter, server)
    said = (event["id"], event["region"], event["agent"], event["session"])
    assert said == ("chatcmpl-7", "eu-1", "writer", "run-7")


def test_a_failed_request_is_no_usage_and_its_error_is_the_callers(
    client: Any, meter: Meter, provider: FakeProvider
) -> None:
    provider._completions = lambda _asked: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**ASK)
    assert str(meter.counts) == "nothing yet"


def test_a_fault_of_the_meter_never_reaches_the_caller(
    client: Any, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(meter, "event", broken)
    assert client.chat.completions.create(**ASK).choices[0].message.content == SAID
    monkeypatch.setattr(meter, "now", broken)
    assert client.chat.completions.create(**ASK).choices[0].message.content == SAID
    assert text(client.chat.completions.create(**ASK, stream=True)) == SAID


def test_the_async_client_is_metered_streams_included(
    provider: FakeProvider, meter: Meter, server: FakeKilotoken
) -> None:
    async def work(client: Any) -> None:
        answer = await client.chat.completions.create(**ASK)
        assert answer.choices[0].message.content == SAID
        stream = await client.chat.completions.create(**ASK, stream=True)
        assert isinstance(stream, openai.AsyncStream)
        chunks = [chunk async for chunk in stream]
        assert text(chunks) == SAID
        assert all(chunk.choices for chunk in chunks)
        async with client.chat.completions.stream(**ASK) as events:
            await events.get_final_completion()
        raw = await client.chat.completions.with_raw_response.create(**ASK)
        assert raw.parse().choices[0].message.content == SAID
        async with client.chat.completions.with_streaming_response.create(**ASK) as response:
            assert (await response.parse()).choices[0].message.content == SAID
        await client.responses.create(model="gpt-x", input="What?")

    in_async(provider, meter, work)
    assert meter.flush(10)
    usages = [event["usage"] for event in server.events]
    assert usages == [CHAT_REGISTERS] * 5 + [RESPONSES_REGISTERS]
    assert meter.counts.unmeasured == 0


@pytest.mark.parametrize("way", ["close", "cancel", "cut"])
def test_an_interrupted_async_stream_is_estimated(
    provider: FakeProvider, meter: Meter, server: FakeKilotoken, way: str
) -> None:
    provider.cut_after = 2 if way == "cut" else None

    async def work(client: Any) -> None:
        stream = await client.chat.completions.create(**ASK, stream=True)
        if way == "cut":
            assert len([chunk async for chunk in stream]) == 3
        elif way == "close":
            await stream.__anext__()
            await stream.close()
        else:
            reading = asyncio.ensure_future(read_and_be_cancelled(stream))
            with pytest.raises(asyncio.CancelledError):
                await reading
            await stream.close()

    in_async(provider, meter, work, estimate=by_characters)
    event = sent(meter, server)
    assert event["usage"]["input"] == 4
    assert event["usage"]["output"] in (2, 4)


async def read_and_be_cancelled(stream: Any) -> None:
    async for _ in stream:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await asyncio.sleep(0)


def test_what_is_no_client_is_refused_at_once(meter: Meter) -> None:
    with pytest.raises(TypeError, match="no client of openai or anthropic"):
        meter.wrap(object())
