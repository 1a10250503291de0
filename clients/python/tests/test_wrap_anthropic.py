"""The real `anthropic` SDK, metered by one line, talking to an endpoint on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kilotoken import Meter, by_characters
from kilotoken_fake import FakeKilotoken
from provider_fake import MESSAGE_REGISTERS, WORDS, FakeProvider
from waiting import eventually

anthropic = pytest.importorskip("anthropic", reason="the anthropic package is not installed")

ASK: dict[str, Any] = {
    "model": "claude-x", "max_tokens": 99,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "What is sold?"}]}],
}  # fmt: skip
SAID = "".join(WORDS)


@pytest.fixture
def client(provider: FakeProvider, meter: Meter) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=provider.url, api_key="x", max_retries=0) as made:
        yield meter.wrap(made)


def sent(meter: Meter, server: FakeKilotoken) -> dict[str, Any]:
    eventually(lambda: meter.flush(10) and server.events)
    (event,) = server.events
    return event


def test_a_message_is_metered_and_comes_back_as_it_is(
    client: Any, meter: Meter, server: FakeKilotoken, provider: FakeProvider
) -> None:
    message = client.messages.create(**ASK)
    assert type(message).__name__ == "Message"
    assert message.content[0].text == SAID
    event = sent(meter, server)
    assert event["usage"] == MESSAGE_REGISTERS
    assert (event["model"], event["service_class"]) == ("claude-x", "priority")
    assert provider.asked == [ASK]


def test_a_stream_is_metered_by_what_it_says_at_its_start_and_its_end(
    client: Any, meter: Meter, server: FakeKilotoken
) -> None:
    stream = client.messages.create(**ASK, stream=True)
    assert isinstance(stream, anthropic.Stream)
    assert [event.type for event in stream][-1] == "message_stop"
    assert sent(meter, server)["usage"] == MESSAGE_REGISTERS


def test_the_stream_manager_is_metered(client: Any, meter: Meter, server: FakeKilotoken) -> None:
    with client.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == SAID
        assert stream.get_final_message().usage.output_tokens == 55
    assert sent(meter, server)["usage"] == MESSAGE_REGISTERS


def test_beta_raw_and_copies_are_metered(client: Any, meter: Meter, server: FakeKilotoken) -> None:
    client.beta.messages.create(**ASK)
    client.messages.with_raw_response.create(**ASK)
    with client.messages.with_streaming_response.create(**ASK) as response:
        response.parse()
    client.with_options(timeout=5).messages.create(**ASK)
    with client.beta.messages.stream(**ASK) as stream:
        stream.until_done()
    assert meter.flush(10)
    assert [event["usage"] for event in server.events] == [MESSAGE_REGISTERS] * 5


@pytest.mark.parametrize("managed", [False, True])
def test_an_interrupted_stream_is_recorded_as_far_as_it_was_reported(
    client: Any, meter: Meter, server: FakeKilotoken, managed: bool,
    letters: Callable[[], list[dict[str, Any]]],
) -> None:  # fmt: skip
    if managed:
        with client.messages.stream(**ASK) as stream:
            next(iter(stream.text_stream))
    else:
        with client.messages.create(**ASK, stream=True) as stream:
            next(stream), next(stream), next(stream)
    assert sent(meter, server)["usage"] == {**MESSAGE_REGISTERS, "output": 1}
    (letter,) = letters()
    assert letter["code"] == "usage_incomplete"
    assert letter["event"]["reported"]["input_tokens"] == 17
    assert meter.counts.unmeasured == 1


def test_an_estimate_fills_in_only_what_was_not_reported(
    provider: FakeProvider, meter: Meter, server: FakeKilotoken
) -> None:
    provider.cut_after = 4
    with anthropic.Anthropic(base_url=provider.url, api_key="x", max_retries=0) as client:
        list(meter.wrap(client, estimate=by_characters).messages.create(**ASK, stream=True))
    event = sent(meter, server)
    assert event["id"].startswith("estimated.")
    assert event["usage"] == {**MESSAGE_REGISTERS, "output": by_characters("".join(WORDS[:3]))}


def test_the_async_client_is_metered_streams_included(
    provider: FakeProvider, meter: Meter, server: FakeKilotoken
) -> None:
    async def work() -> None:
        async with anthropic.AsyncAnthropic(
            base_url=provider.url, api_key="x", max_retries=0
        ) as client:
            meter.wrap(client)
            assert (await client.messages.create(**ASK)).content[0].text == SAID
            stream = await client.messages.create(**ASK, stream=True)
            assert [event.type async for event in stream][-1] == "message_stop"
            async with client.messages.stream(**ASK) as managed:
                assert "".join([said async for said in managed.text_stream]) == SAID
            await client.messages.with_raw_response.create(**ASK)
            async with client.messages.with_streaming_response.create(**ASK) as response:
                assert (await response.parse()).content[0].text == SAID

    asyncio.run(work())
    assert meter.flush(10)
    assert [event["usage"] for event in server.events] == [MESSAGE_REGISTERS] * 5
    assert meter.counts.unmeasured == 0
