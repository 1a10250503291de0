"""Compressed requests at the ingestion door: after authentication, under the limit, no failure."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest
from backports import zstd
from django.utils import timezone

from accounts.models import Organization
from metering import readings
from metering.ingest import decode
from tests.meter import Door, door, empty_meter, key, make_body, no_bell

__all__ = ["door", "empty_meter", "key", "no_bell"]

COMPRESS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "zstd": zstd.compress}
each_encoding = pytest.mark.parametrize("encoding", list(COMPRESS))


def events(count: int = 3, **fields: Any) -> list[dict[str, Any]]:
    now = timezone.now().isoformat()
    return [make_body(id=f"evt-{n}", occurred_at=now, **fields) for n in range(count)]


@each_encoding
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("lines", [True, False])
def test_a_compressed_body_is_taken(
    door: Door, acme: Organization, encoding: str, declared: bool, lines: bool
) -> None:
    sent = events()
    plain = "\n".join(map(json.dumps, sent)) if lines else json.dumps(sent)
    data = COMPRESS[encoding](plain.encode())
    chunked: dict[str, Any] = {"CONTENT_LENGTH": "", "wsgi.input": io.BytesIO(data)}
    reply = door.post(
        data,
        media_type="application/x-ndjson" if lines else "application/json",
        HTTP_CONTENT_ENCODING=encoding.upper(),
        **({} if declared else chunked),
    )
    assert (reply.status, reply.json["accepted"]) == (202, 3)
    assert len(readings.find_events(acme.pk)) == 3


def test_lines_may_be_compressed_one_by_one(door: Door) -> None:
    data = b"".join(gzip.compress(json.dumps(event).encode() + b"\n") for event in events(4))
    reply = door.post(data, media_type="application/x-ndjson", HTTP_CONTENT_ENCODING="gzip")
    assert reply.json["accepted"] == 4


@each_encoding
def test_a_retry_in_another_encoding_is_a_duplicate(door: Door, encoding: str) -> None:
    sent = events(1)
    assert door.post(sent).json["accepted"] == 1
    data = COMPRESS[encoding](json.dumps(sent).encode())
    assert door.post(data, HTTP_CONTENT_ENCODING=encoding).json["duplicate"] == 1


@each_encoding
@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"not at all", 400, "bad_encoding"),
        (..., 400, "bad_encoding"),
        (bytes(decode.BODY_BYTES_MAX + 1), 413, "decompressed_too_large"),
        (b"", 400, "empty_body"),
        (b"  ", 400, "empty_body"),
        (b"{", 400, "malformed_json"),
        (b"\xff", 400, "not_utf8"),
        (b"[]", 422, "empty_batch"),
    ],
)
def test_a_bad_compressed_body_is_refused_whole(
    door: Door, acme: Organization, encoding: str, data: Any, status: int, code: str
) -> None:
    compress = COMPRESS[encoding]
    if data is ...:
        body = compress(json.dumps(events()).encode())[:-6]
    else:
        body = data if code == "bad_encoding" else compress(data)
    reply = door.post(body, HTTP_CONTENT_ENCODING=encoding)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert readings.find_events(acme.pk) == []


def test_nothing_is_unpacked_before_the_key_is_known(
    empty_meter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unread:
        def read(self, size: int) -> bytes:
            raise AssertionError("nobody asked for it")

    reply = Door("nonsense").post(
        b"", CONTENT_LENGTH="100", HTTP_CONTENT_ENCODING="gzip", **{"wsgi.input": Unread()}
    )
    assert (reply.status, reply.json["code"]) == (401, "invalid_api_key")
