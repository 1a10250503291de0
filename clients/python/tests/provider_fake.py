"""Endpoints that speak like OpenAI and Anthropic, for their real SDKs. Numbers are our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from kilotoken_fake import _Server

CHAT_USAGE = {
    "prompt_tokens": 1300, "completion_tokens": 420, "total_tokens": 1720,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 300, "audio_tokens": 0,
                                  "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
}  # fmt: skip
CHAT_REGISTERS = {"input": 276, "cache_read": 1024, "output": 120, "reasoning": 300}
RESPONSES_USAGE = {
    "input_tokens": 90, "output_tokens": 33, "total_tokens": 123,
    "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 11},
}  # fmt: skip
RESPONSES_REGISTERS = {"input": 26, "cache_read": 64, "output": 22, "reasoning": 11}
MESSAGE_USAGE = {
    "input_tokens": 17, "cache_creation_input_tokens": 700, "cache_read_input_tokens": 2048,
    "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 55, "service_tier": "priority",
}  # fmt: skip
MESSAGE_REGISTERS = {"input": 17, "cache_read": 2048, "cache_write": 500, "cache_write_1h": 200,
                     "output": 55}  # fmt: skip
WORDS = ("Tokens ", "are ", "sold ", "by ", "the ", "million.")


class FakeProvider:
    """Answers like a model endpoint. `cut_after` words it closes the connection."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.cut_after: int | None = None
        self.reports_usage = True
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                fake._handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> FakeProvider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        asked = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.asked.append(asked)
        what = request.path.rsplit("/", 1)[-1].split("?")[0]
        if asked.get("stream"):
            self._stream(request, getattr(self, f"_{what}_chunks")(asked))
            return
        data = json.dumps(getattr(self, f"_{what}")(asked)).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _stream(self, request: BaseHTTPRequestHandler, chunks: Iterator[Any]) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Connection", "close")
        request.end_headers()
        for said, (name, chunk) in enumerate(chunks):
            if self.cut_after is not None and said > self.cut_after:
                request.close_connection = True
                return
            data = chunk if isinstance(chunk, str) else json.dumps(chunk)
            event = f"event: {name}\n" if name else ""
            request.wfile.write(f"{event}data: {data}\n\n".encode())
            request.wfile.flush()
        request.close_connection = True

    # OpenAI

    def _completions(self, asked: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(WORDS), "refusal": None}
        return {"id": "chatcmpl-7", "object": "chat.completion", "created": 1_790_000_000,
                "model": f"{asked['model']}-2026-09-01", "service_tier": "flex",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop",
                             "logprobs": None}],
                "usage": CHAT_USAGE if self.reports_usage else None}  # fmt: skip

    def _completions_chunks(self, asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        base = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1_790_000_000,
                "model": f"{asked['model']}-2026-09-01", "service_tier": "flex"}  # fmt: skip
        wants = (asked.get("stream_options") or {}).get("include_usage")
        nothing = {"usage": None} if wants else {}
        for word in WORDS:
            delta = {"role": "assistant", "content": word}
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            yield "", {**base, **nothing, "choices": [choice]}
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        yield "", {**base, **nothing, "choices": [last]}
        if wants and self.reports_usage:
            yield "", {**base, "choices": [], "usage": CHAT_USAGE}
        yield "", "[DONE]"

    def _embeddings(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"object": "list", "model": asked["model"],
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
                "usage": {"prompt_tokens": 8, "total_tokens": 8}}  # fmt: skip

    def _responses(self, asked: dict[str, Any]) -> dict[str, Any]:
        text = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
                   "content": [text]}  # fmt: skip
        return {"id": "resp_7", "object": "response", "created_at": 1_790_000_000,
                "model": asked["model"], "status": "completed", "output": [message],
                "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                "service_tier": "default", "usage": RESPONSES_USAGE}  # fmt: skip

    def _responses_chunks(self, asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        whole = self._responses(asked)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        yield "response.created", {"type": "response.created", "sequence_number": 0,
                                   "response": begun}  # fmt: skip
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        message = {**whole["output"][0], "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        events: list[dict[str, Any]] = [
            {"type": "response.output_item.added", "output_index": 0, "item": message},
            {"type": "response.content_part.added", **place, "part": part},
            *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
              for word in WORDS),
        ]  # fmt: skip
        for number, event in enumerate(events, 1):
            yield event["type"], {**event, "sequence_number": number}
        yield "response.completed", {"type": "response.completed", "sequence_number": 99,
                                     "response": whole}  # fmt: skip

    # Anthropic

    def _messages(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"id": "msg_7", "type": "message", "role": "assistant", "model": asked["model"],
                "content": [{"type": "text", "text": "".join(WORDS)}], "stop_reason": "end_turn",
                "stop_sequence": None, "usage": MESSAGE_USAGE}  # fmt: skip

    def _messages_chunks(self, asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        begun = {**self._messages(asked), "content": [], "stop_reason": None,
                 "usage": {**MESSAGE_USAGE, "output_tokens": 1}}  # fmt: skip
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0,
             "content_block": {"type": "text", "text": ""}},
            *({"type": "content_block_delta", "index": 0,
               "delta": {"type": "text_delta", "text": word}} for word in WORDS),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
             "usage": {"output_tokens": 55, "input_tokens": None}},
            {"type": "message_stop"},
        ]  # fmt: skip
        for event in events:
            yield event["type"], event
