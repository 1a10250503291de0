"""Metering calls on a caller's own client: what is common to every SDK. Imports none of them.

A wrapped method calls the original with the caller's arguments and hands back the original's
result: the same response object, or the same stream with its chunks looked at as they pass. What
goes wrong in here is logged and never reaches the caller.
"""

from __future__ import annotations

import functools
import inspect
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kilotoken import dialects, labelling
from kilotoken.writing import kept_soon

if TYPE_CHECKING:
    from kilotoken.meter import Meter

Estimate = Callable[[str], int]  # tokens of a text
RAW_HEADER = "X-Stainless-Raw-Response"  # how both SDKs mark `with_raw_response`
CHARACTERS_PER_TOKEN = 4  # a rule of thumb for English; a tokenizer knows better

logger = logging.getLogger("kilotoken")


def by_characters(text: str) -> int:
    """A crude estimate of a text's tokens, for want of the model's tokenizer."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


@dataclass(frozen=True)
class Wrapping:
    """How a client is to be metered; see `Meter.wrap`."""

    meter: Meter
    dialect: str | None = None
    estimate: Estimate | None = None
    response_ids: bool = False
    ask_for_usage: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One request to a model, from its start until its usage is known."""

    meter: Meter
    model: str
    started_at: datetime
    labels: Mapping[str, str]
    dialect: str | None = None
    estimate: Estimate | None = None
    response_ids: bool = False
    prompt: str = ""
    parses: bool = False  # whether a raw response is to be parsed even if the caller never does
    usage: object | None = None
    complete: bool = False  # whether `usage` is the last word
    id: str | None = None
    service_class: str | None = None
    hides_usage: bool = False  # the caller did not ask for the chunk that only holds usage
    texts: list[str] = field(default_factory=list)
    awaited: bool = False  # whether this runs on an event loop, which must not be kept
    done: bool = False

    def met(self, response: Any) -> None:
        """Note what any part of a response may say about the whole."""
        self.model = getattr(response, "model", None) or self.model
        self.service_class = getattr(response, "service_tier", None) or self.service_class
        if self.response_ids:
            self.id = getattr(response, "id", None) or self.id

    def fields(self) -> dict[str, Any]:
        """What an event of this call says beside its quantities."""
        said = {"service_class": self.service_class} if self.service_class else {}
        return {"model": self.model, "occurred_at": self.started_at, "id": self.id,
                **said, **self.labels}  # fmt: skip

    def estimated(self) -> dict[str, int] | None:
        """Quantities from the texts seen, if that was asked for and the usage stayed unknown."""
        if self.estimate is None or self.complete:
            return None
        sent = {"input": self.estimate(self.prompt)}
        if self.usage is not None:  # the input was reported before the stream was cut
            reported = dialects.read(self.usage, self.dialect).usage.items()
            sent = {n: q for n, q in reported if n != "reasoning" and not n.startswith("output")}
        return {**sent, "output": self.estimate("".join(self.texts))}

    def finish(self) -> None:
        """Record, without waiting for the disk; once, however the call ended."""
        if not self.done:
            self.done = True
            self.meter.offer_call(self)

    def finish_durably(self) -> None:
        """The same, waiting for the disk as long as the meter allows, except in a coroutine."""
        if not self.done:
            self.done = True
            if self.awaited:
                self.meter.offer_call(self)
            else:
                self.meter.record_call(self)

    async def finish_soon(self) -> None:
        """The same for a coroutine."""
        if not self.done:
            self.done = True
            if offer := self.meter.offer_call(self):
                await kept_soon(offer.kept, self.meter.wait_s)


@dataclass(frozen=True)
class Api:
    """How one kind of endpoint is asked and how it answers."""

    ask: Callable[[Call, dict[str, Any], Wrapping], None]  # may add to the arguments
    response: Callable[[Call, Any], None]
    chunk: Callable[[Call, Any], bool]  # whether the caller should see it


def meter_methods(
    client: object, table: Mapping[str, tuple[tuple[str, ...], Api]], wrapping: Wrapping
) -> None:
    """Replace methods on a client's resources, by the resource's path."""
    for path, (names, api) in table.items():
        try:
            resource = functools.reduce(getattr, path.split("."), client)
        except AttributeError:  # this SDK, or this kind of client, has no such endpoint
            continue
        for name in names:
            method = getattr(resource, name, None)
            if method is not None and not hasattr(method, "kilotoken"):
                setattr(resource, name, metered(method, api, wrapping))


def rewrap_copies(client: Any, wrap: Callable[[Any, Wrapping], None], wrapping: Wrapping) -> None:
    """`client.with_options(...)` makes a new client, which must be metered as well."""
    for name in ("copy", "with_options"):
        original = getattr(client, name, None)
        if original is not None and not hasattr(original, "kilotoken"):
            setattr(client, name, _copying(original, wrap, wrapping))


def _copying(
    original: Callable[..., Any], wrap: Callable[[Any, Wrapping], None], wrapping: Wrapping
) -> Callable[..., Any]:
    @functools.wraps(original)
    def copied(*args: Any, **options: Any) -> Any:
        client = original(*args, **options)
        wrap(client, wrapping)
        return client

    copied.kilotoken = True  # type: ignore[attr-defined]
    return copied


def metered(method: Callable[..., Any], api: Api, wrapping: Wrapping) -> Callable[..., Any]:
    """A method that does what it did, and has its result metered."""

    @functools.wraps(method)
    def call_and_meter(*args: Any, **options: Any) -> Any:
        call, options = begin(api, wrapping, options)
        result = method(*args, **options)
        if call is None:
            return result
        if inspect.isawaitable(result):
            return _awaited(result, call, api)
        if attend(result, call, api):
            call.finish_durably()
        elif call.parses:
            _parsed(result)
        return result

    call_and_meter.kilotoken = True  # type: ignore[attr-defined]
    return call_and_meter


async def _awaited(result: Any, call: Call, api: Api) -> Any:
    call.awaited = True
    response = await result
    if attend(response, call, api):
        await call.finish_soon()
    elif call.parses and inspect.isawaitable(parsed := _parsed(response)):
        await parsed
    return response


def _parsed(raw: Any) -> Any:
    try:
        return raw.parse()
    except Exception:  # the caller will meet it too, if the caller parses
        logger.exception("a raw response could not be parsed, and is not metered")
        return None


def begin(
    api: Api, wrapping: Wrapping, options: dict[str, Any]
) -> tuple[Call | None, dict[str, Any]]:
    """Note when the request starts. Returns the arguments to call with, or None and the same."""
    try:
        call = Call(
            wrapping.meter,
            str(options.get("model") or "unknown"),
            wrapping.meter.now(),
            {**wrapping.labels, **labelling.current()},
            wrapping.dialect,
            wrapping.estimate,
            wrapping.response_ids,
        )
        asked = dict(options)
        api.ask(call, asked, wrapping)
        raw = (options.get("extra_headers") or {}).get(RAW_HEADER)
        call.parses = raw in ("raw", "true") and not options.get("stream")
    except Exception:
        logger.exception("a call will not be metered")
        return None, options
    return call, asked


def attend(result: Any, call: Call, api: Api) -> bool:
    """Look at a result. True: all is known; False: a stream or raw response will tell later."""
    try:
        if hasattr(result, "parse") and hasattr(result, "http_response"):
            _attend_raw(result, call, api)
            return False
        if hasattr(result, "response") and hasattr(result, "_iterator"):
            _attend_stream(result, call, api)
            return False
        api.response(call, result)
    except Exception:
        logger.exception("the usage of a call could not be read")
    return True


def _attend_stream(stream: Any, call: Call, api: Api) -> None:
    """Look at chunks as they pass, and notice when the caller stops reading."""
    if hasattr(stream, "__anext__"):
        stream._iterator = _passing_async(stream._iterator, call, api)
    else:
        stream._iterator = _passing(stream._iterator, call, api)
    _when_closed(stream.response, call)


def _passing(chunks: Iterator[Any], call: Call, api: Api) -> Iterator[Any]:
    try:
        for chunk in chunks:
            if _shown(chunk, call, api):
                yield chunk
    finally:
        call.finish_durably()


async def _passing_async(chunks: AsyncIterator[Any], call: Call, api: Api) -> AsyncIterator[Any]:
    try:
        async for chunk in chunks:
            if _shown(chunk, call, api):
                yield chunk
    finally:
        call.finish()


def _shown(chunk: Any, call: Call, api: Api) -> bool:
    try:
        return api.chunk(call, chunk)
    except Exception:
        logger.exception("the usage in a chunk could not be read")
        return True


def _when_closed(response: Any, call: Call) -> None:
    """The SDK closes the response at the end, after an error, and when told to: all ways out.

    The generator above would notice an abandoned stream only when it is collected.
    """
    close, aclose = getattr(response, "close", None), getattr(response, "aclose", None)
    if close is not None:

        def closed(*args: Any, **options: Any) -> Any:
            try:
                return close(*args, **options)
            finally:
                call.finish_durably()

        response.close = closed
    if aclose is not None:

        async def aclosed(*args: Any, **options: Any) -> Any:
            try:
                return await aclose(*args, **options)
            finally:
                call.finish()

        response.aclose = aclosed


def _attend_raw(raw: Any, call: Call, api: Api) -> None:
    """`with_raw_response`: the usage shows when the body is parsed, by the caller or by us."""
    original = raw.parse
    attended = False

    def attend_once(parsed: Any) -> Any:
        nonlocal attended
        if not attended:
            attended = True
            if attend(parsed, call, api):
                call.finish_durably()
        return parsed

    async def attend_later(parsed: Any) -> Any:
        return attend_once(await parsed)

    @functools.wraps(original)
    def parse(*args: Any, **options: Any) -> Any:
        parsed = original(*args, **options)
        return attend_later(parsed) if inspect.isawaitable(parsed) else attend_once(parsed)

    raw.parse = parse
    weakref.finalize(raw, call.finish)  # never parsed: say that it was not metered


def texts(value: Any) -> Iterator[str]:
    """Every text in a prompt, wherever it stands. For estimates, and kept nowhere."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name in ("text", "content", "input", "output", "arguments"):
            yield from texts(value.get(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)
