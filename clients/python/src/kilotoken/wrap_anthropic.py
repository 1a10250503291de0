"""Metering clients of the `anthropic` package. Does not import it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from kilotoken import dialects
from kilotoken.wrapping import (
    Api,
    Call,
    Wrapping,
    attend,
    begin,
    meter_methods,
    rewrap_copies,
    texts,
)


def wrap(client: Any, wrapping: Wrapping) -> None:
    """Meter `messages` and `beta.messages`, and every copy made of the client."""
    meter_methods(client, _TABLE, wrapping)
    for path in _TABLE:
        resource = functools.reduce(
            lambda at, name: getattr(at, name, None), path.split("."), client
        )
        method = getattr(resource, "stream", None)
        if method is not None and not hasattr(method, "kilotoken"):
            resource.stream = _streaming(method, wrapping)
    rewrap_copies(client, wrap, wrapping)


def _ask(call: Call, options: dict[str, Any], wrapping: Wrapping) -> None:
    call.dialect = wrapping.dialect or "anthropic"
    if wrapping.estimate is not None:
        call.prompt = "\n".join(texts([options.get("system"), options.get("messages")]))


def _response(call: Call, message: Any) -> None:
    call.met(message)
    _report(call, getattr(message, "usage", None))
    call.complete = call.usage is not None


def _chunk(call: Call, event: Any) -> bool:
    """Usage comes in two parts: the input at the start, the output, as a running total, later."""
    kind = getattr(event, "type", "")
    if kind == "message_start":
        call.met(event.message)
        _report(call, event.message.usage)
    elif kind == "message_delta":
        _report(call, event.usage)
        call.complete = True
    elif kind == "content_block_delta" and call.estimate is not None:
        said = (getattr(event.delta, n, None) for n in ("text", "thinking", "partial_json"))
        call.texts += [text for text in said if isinstance(text, str)]
    return True


def _report(call: Call, usage: Any) -> None:
    """Lay a report over what was reported before; a null says nothing new."""
    if usage is None:
        return
    said = {name: v for name, v in dialects.as_mapping(usage).items() if v is not None}
    call.usage = {**(call.usage if isinstance(call.usage, Mapping) else {}), **said}
    call.service_class = said.get("service_tier") or call.service_class


class _Manager:
    """`messages.stream(...)`: the SDK's manager, whose stream is attended once it is entered."""

    def __init__(self, manager: Any, call: Call) -> None:
        self._manager = manager
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    def __enter__(self) -> Any:
        return self._attended(self._manager.__enter__())

    def __exit__(self, *why: Any) -> Any:
        return self._manager.__exit__(*why)

    async def __aenter__(self) -> Any:
        return self._attended(await self._manager.__aenter__())

    async def __aexit__(self, *why: Any) -> Any:
        return await self._manager.__aexit__(*why)

    def _attended(self, stream: Any) -> Any:
        attend(getattr(stream, "_raw_stream", stream), self._call, _MESSAGES)
        return stream


def _streaming(method: Callable[..., Any], wrapping: Wrapping) -> Callable[..., Any]:
    @functools.wraps(method)
    def stream(*args: Any, **options: Any) -> Any:
        call, options = begin(_MESSAGES, wrapping, options)
        manager = method(*args, **options)
        return manager if call is None else _Manager(manager, call)

    stream.kilotoken = True  # type: ignore[attr-defined]
    return stream


_MESSAGES = Api(_ask, _response, _chunk)
_TABLE = {
    "messages": (("create", "parse"), _MESSAGES),
    "beta.messages": (("create", "parse"), _MESSAGES),
}
