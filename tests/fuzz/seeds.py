"""What the mutations begin with: one good input of each kind, and words that parsers trip over."""

from __future__ import annotations

import gzip
import json

from backports import zstd

from tests.bad_input.forms import ARRAY, BATCH, LINES, OBJECT, STRUCTURED

_EVENT = {"id": "evt", "source": "gateway-1", "occurred_at": "2026-11-18T10:07:30Z",
          "model": "deepseek-v4", "usage": {"input": 1200, "output": 80}}  # fmt: skip
EVENTS = [
    {**_EVENT, "id": f"evt-{n}", "agent": "a", "session": "s", "region": "eu"} for n in range(3)
]
CHAT = {**_EVENT, "usage_format": "openai_chat", "usage": {
    "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4}}}  # fmt: skip
CORRECTIONS = [{"id": "v", "source": "gateway-1", "voids": "evt-1", "reason": "test"},
               {**_EVENT, "id": "w", "amends": "evt-2"}]  # fmt: skip

BODIES: dict[str, list[bytes]] = {
    form.name: [
        form.body([form.text(event) for event in events]).encode()
        for events in ((EVENTS, [CHAT], CORRECTIONS) if form.many else ([EVENTS[0]], [CHAT]))
    ]
    for form in (ARRAY, LINES, OBJECT, BATCH, STRUCTURED)
}
_SPAN = {
    "traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "b7ad6b7169203331",
    "endTimeUnixNano": "1763460450000000000",
    "attributes": [
        {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": 3}},
    ],
}
_RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "gateway"}}]}
OTLP = json.dumps(
    {"resourceSpans": [{"resource": _RESOURCE, "scopeSpans": [{"spans": [_SPAN]}]}]}
).encode()
PACKED = {name: [pack(BODIES["array"][0]), pack(b"")]
          for name, pack in (("gzip", gzip.compress), ("zstd", zstd.compress))}  # fmt: skip
TIMES = [b"2026-11-18T10:07:30Z", b"2026-11-18T10:07:30.123456+05:45", b"0001-01-01T00:00:00+14:00"]
HEADERS = [b"Bearer kt_abcdefghijkl_" + b"A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v", b"Basic x"]
QUERIES = [b"mode=atomic&only=errors", b"backfill=1", b"mode=partial&mode=atomic", b"a=%00%ff"]

TOKENS = (
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\\u0000", b"{", b"}", b"[", b"]", b'"', b"\\",
    b"\\ud800",
    b",", b":", b"\n", b"\r", b"null", b"true", b"NaN", b"-0", b"1e400", b"1e999999999", b"0.1",
    b"9" * 30, b"9" * 5000, b"[" * 40, b'{"a":' * 40, b" ", b"\xc2\xa0", "é́".encode(),
    "\u202e".encode(), b"kt_abcdefghijkl_A1b2C3d4", b"sk-", b"%00", b"&", b"=", b";", b"/",
    b'"id": "evt-1", ', b'"usage": ', b'"voids": "evt-0", ', b"2026-11-18T24:00:60Z", b"+14:00",
)  # fmt: skip
