"""Metering clients of the `openai` package, and of what speaks like it. Does not import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kilotoken.wrapping import Api, Call, Wrapping, meter_methods, rewrap_copies, texts

_FINAL = ("response.completed", "response.incomplete", "response.failed")


def wrap(client: object, wrapping: Wrapping) -> None:
    """Meter the client's endpoints that report tokens, and every copy made of it."""
    meter_methods(client, _TABLE, wrapping)
    rewrap_copies(client, wrap, wrapping)


def _ask_chat(call: Call, options: dict[str, Any], wrapping: Wrapping) -> None:
    _ask(call, options, wrapping)
    if not options.get("stream") or not wrapping.ask_for_usage:
        return
    chosen = options.get("stream_options")
    chosen = chosen if isinstance(chosen, Mapping) else {}
    if "include_usage" in chosen:  # yes or no: the caller has chosen
        return
    options["stream_options"] = {**chosen, "include_usage": True}
    call.hides_usage = True


def _ask(call: Call, options: dict[str, Any], wrapping: Wrapping) -> None:
    if wrapping.estimate is not None:
        said = [options.get(n) for n in ("instructions", "messages", "input", "prompt")]
        call.prompt = "\n".join(texts(said))


def _response(call: Call, response: Any) -> None:
    call.met(response)
    call.usage = getattr(response, "usage", None)
    call.complete = call.usage is not None


def _chat_chunk(call: Call, chunk: Any) -> bool:
    call.met(chunk)
    choices = getattr(chunk, "choices", None) or []
    if call.estimate is not None:
        for choice in choices:
            delta = getattr(choice, "delta", choice)
            said = (getattr(delta, n, None) for n in ("reasoning_content", "content", "text"))
            call.texts += [text for text in said if isinstance(text, str)]
    usage = getattr(chunk, "usage", None)
    if usage is None:
        return True
    # Some servers report after each chunk; then the last report says what was used until then.
    call.usage, call.complete = usage, True
    return bool(choices) or not call.hides_usage


def _responses_chunk(call: Call, event: Any) -> bool:
    kind = getattr(event, "type", "")
    if (response := getattr(event, "response", None)) is not None:
        call.met(response)
        if kind in _FINAL:
            _response(call, response)
    elif call.estimate is not None and kind.endswith("_text.delta"):
        call.texts.append(str(event.delta))
    return True


_CHAT = Api(_ask_chat, _response, _chat_chunk)
_PLAIN = Api(_ask, _response, _chat_chunk)
_RESPONSES = Api(_ask, _response, _responses_chunk)
# `chat.completions.stream` and `responses.stream` go through `create`.
_TABLE = {
    "chat.completions": (("create", "parse"), _CHAT),
    "beta.chat.completions": (("create", "parse"), _CHAT),
    "completions": (("create",), _CHAT),
    "responses": (("create", "parse"), _RESPONSES),
    "embeddings": (("create",), _PLAIN),
}
