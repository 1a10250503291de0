"""From a compressed body to the bytes that were compressed: step by step, and never past the limit.

Memory is bounded whatever was sent: what comes out is counted while it comes out, zstd may look
back no further than RFC 9659 allows, and a body cannot be cut into more parts than it may hold
events.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator

from accounts.problems import Problem
from metering.ingest.decode import BODY_BYTES_MAX, EVENTS_MAX, Refusal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP_BYTES = 1 << 16
WINDOW_LOG_MAX = 23  # 8 MiB, the most that RFC 9659 lets a sender ask for
ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
PARTS_MAX = EVENTS_MAX  # gzip members or zstd frames; each costs a decoder


def inflate(data: bytes, encoding: str) -> bytes:
    """The body as it was before it was compressed."""
    pieces: list[bytes] = []
    inflated = 0
    for piece in STEPS[encoding](memoryview(data)):
        inflated += len(piece)
        if inflated > BODY_BYTES_MAX:
            raise _too_large(encoding, len(data))
        pieces.append(piece)
    return b"".join(pieces)


def _gunzip(data: memoryview) -> Iterator[bytes]:
    """Member after member, as RFC 1952 has it."""
    place, parts, pending = 0, 0, False
    stream = None
    while place < len(data) or pending:
        if stream is None:
            parts = _one_more(parts, "gzip")
            stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        fed = data[place : place + STEP_BYTES]
        try:
            piece = stream.decompress(fed, STEP_BYTES)
        except zlib.error as error:
            raise _damaged("gzip", place, str(error).rpartition(": ")[2]) from None
        # At the end of a member zlib may name what is left twice; it is left once.
        place += len(fed) - len(stream.unused_data if stream.eof else stream.unconsumed_tail)
        pending = len(piece) == STEP_BYTES and not stream.eof
        if stream.eof:
            stream = None
        yield piece
    if stream is not None:
        raise _damaged("gzip", len(data), "the body ends before its end was marked")


def _unzstd(data: memoryview) -> Iterator[bytes]:
    """Frame after frame, as RFC 8878 has it."""
    place, parts = 0, 0
    stream = None
    while place < len(data) or not (stream is None or stream.needs_input):
        if stream is None:
            parts = _one_more(parts, "zstd")
            stream = zstd.ZstdDecompressor(options=ZSTD_OPTIONS)
        fed = data[place : place + STEP_BYTES] if stream.needs_input else b""
        try:
            piece = stream.decompress(fed, STEP_BYTES)
        except zstd.ZstdError as error:
            raise _damaged("zstd", place, str(error).rpartition(": ")[2].rstrip(".")) from None
        place += len(fed)
        if stream.eof:
            place -= len(stream.unused_data)
            stream = None
        yield piece
    if stream is not None:
        raise _damaged("zstd", len(data), "the body ends before its end was marked")


STEPS: dict[str, Callable[[memoryview], Iterator[bytes]]] = {"gzip": _gunzip, "zstd": _unzstd}


def _one_more(parts: int, encoding: str) -> int:
    if parts == PARTS_MAX:
        detail = f"The {encoding} body is cut into more than {PARTS_MAX} parts; send it in one."
        raise Refusal(Problem("bad_encoding", detail))
    return parts + 1


def _damaged(encoding: str, place: int, said: str) -> Refusal:
    detail = f"The body is not {encoding} all through: {said}, at or after byte {place}."
    return Refusal(Problem("bad_encoding", detail))


def _too_large(encoding: str, received: int) -> Refusal:
    detail = (
        f"The body's {received} bytes of {encoding} hold more than the {BODY_BYTES_MAX} bytes that "
        "are allowed once it is unpacked."
    )
    extra: dict[str, object] = {"limit": BODY_BYTES_MAX, "received": received}
    return Refusal(Problem("decompressed_too_large", detail, extra))
