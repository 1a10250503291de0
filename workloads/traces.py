"""Readers of traces, one row at a time: what each public format means in disjoint registers.

A request's id is its row number, so that the same file always makes the same events.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from workloads.request import Request

MOONCAKE_BLOCK_TOKENS = 512
LABELS = ("project", "api_key", "agent", "session", "region", "service_class")
REGISTER = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)
_SECOND_US = 1_000_000


class BadTrace(Exception):
    """The file is not what its format promises; the text says where and what is expected."""


class Format(StrEnum):
    """The formats `read` knows."""

    AZURE = "azure"
    MOONCAKE = "mooncake"
    BAILIAN = "bailian"
    BURSTGPT = "burstgpt"
    CSV = "csv"


@dataclass(slots=True)
class Summary:
    """What a whole file holds: the left column of every reconciliation."""

    rows: int = 0
    last_offset_us: int = 0
    first_offset_us: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)

    def add(self, request: Request) -> None:
        if self.rows == 0:
            self.first_offset_us = request.offset_us
        self.rows += 1
        self.first_offset_us = min(self.first_offset_us, request.offset_us)
        self.last_offset_us = max(self.last_offset_us, request.offset_us)
        for register, quantity in request.quantities.items():
            self.totals[register] += quantity
        self.clients[request.client] += 1
        self.models[request.model] += 1


def read(
    path: Path, trace_format: Format, *, model: str, limit: int | None = None
) -> Iterator[Request]:
    """Yield the requests of a file in its order. BadTrace says which row is wrong.

    model names the model where the format does not.
    """
    row = 0
    with _open(path) as text:
        try:
            requests = islice(_READERS[trace_format](text, model), limit)
            for row, request in enumerate(requests, 1):  # noqa: B007 - named below
                yield request
        except BadTrace as error:
            raise BadTrace(f"{path.name}, row {row + 1}: {error}") from error
        except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError) as error:
            raise BadTrace(f"{path.name}, after row {row}: {error}") from error


def summarize(requests: Iterable[Request]) -> Summary:
    """Add up a workload."""
    summary = Summary()
    for request in requests:
        summary.add(request)
    return summary


def origin(path: Path) -> datetime | None:
    """When the first row of a generic csv says it occurred; None if it has offsets only."""
    with _open(path) as text:
        rows = csv.reader(text)
        header = next(rows, [])
        first = next(rows, None)
    if "occurred_at" not in header or first is None:
        return None
    return _instant(first[header.index("occurred_at")])


def digest(path: Path) -> str:
    """SHA-256 of the file as it lies there, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _azure(text: TextIO, model: str) -> Iterator[Request]:
    first_us: int | None = None
    wanted = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
    for row, (when, context, generated) in enumerate(_rows(text, wanted), 1):
        # The trace has 100 ns digits; what cannot be kept as microseconds is cut, not rounded.
        moment_us = _microseconds(_instant(when[:26].replace(" ", "T") + "Z"))
        first_us = moment_us if first_us is None else first_us
        quantities = _counted(input=_whole(context), output=_whole(generated))
        yield Request(str(row), moment_us - first_us, model, quantities)


def _mooncake(text: TextIO, model: str) -> Iterator[Request]:
    seen: set[int] = set()
    for row, line in enumerate(text, 1):
        fact = _json_object(line)
        input_tokens = _whole(fact["input_length"])
        cached = min(_leading(fact["hash_ids"], seen) * MOONCAKE_BLOCK_TOKENS, input_tokens)
        seen.update(fact["hash_ids"])
        quantities = _counted(
            input=input_tokens - cached, cache_read=cached, output=_whole(fact["output_length"])
        )
        yield Request(str(row), _whole(fact["timestamp"]) * 1_000, model, quantities)


def _bailian(text: TextIO, _model: str) -> Iterator[Request]:
    wanted = (
        "offset_s",
        "client",
        "model",
        "input_tokens",
        "output_tokens",
        "reasoning_tokens",
    )
    for row, (offset, client, model, given, produced, thought) in enumerate(_rows(text, wanted), 1):
        output, reasoning = _whole(produced), _whole(thought)
        if reasoning > output:
            raise BadTrace(f"reasoning_tokens {reasoning} is part of output_tokens {output}")
        quantities = _counted(input=_whole(given), output=output - reasoning, reasoning=reasoning)
        yield Request(str(row), _seconds(offset), model, quantities, client)


def _burstgpt(text: TextIO, _model: str) -> Iterator[Request]:
    wanted = ("Timestamp", "Model", "Request tokens", "Response tokens")
    first_us: int | None = None
    for row, (when, model, given, produced) in enumerate(_rows(text, wanted), 1):
        offset_us = _seconds(when)
        first_us = offset_us if first_us is None else first_us
        quantities = _counted(input=_whole(given), output=_whole(produced))
        yield Request(str(row), offset_us - first_us, model.lower().replace(" ", "-"), quantities)


def _generic(text: TextIO, model: str) -> Iterator[Request]:
    """`occurred_at` or `offset_s`; optional `model`, `client` and labels; the rest registers."""
    rows = csv.reader(text)
    header = next(rows, [])
    timed = "occurred_at" if "occurred_at" in header else "offset_s"
    known = {timed, "model", "client", *LABELS}
    registers = [name for name in header if name not in known]
    _check_generic(header, timed, registers)
    first_us: int | None = None
    for row, values in enumerate(rows, 1):
        fact = _paired(header, values)
        offset_us = _when(fact, timed)
        first_us = first_us if first_us is not None else (offset_us if "_at" in timed else 0)
        yield Request(
            str(row),
            offset_us - first_us,
            fact.get("model") or model,
            _counted(**{name: _whole(fact[name] or "0") for name in registers}),
            fact.get("client", ""),
            {name: fact[name] for name in LABELS if fact.get(name)},
        )


_READERS: dict[Format, Callable[[TextIO, str], Iterator[Request]]] = {
    Format.AZURE: _azure,
    Format.MOONCAKE: _mooncake,
    Format.BAILIAN: _bailian,
    Format.BURSTGPT: _burstgpt,
    Format.CSV: _generic,
}


def _check_generic(header: Sequence[str], timed: str, registers: Sequence[str]) -> None:
    if timed not in header:
        raise BadTrace("a column occurred_at or offset_s must say when")
    if not registers:
        raise BadTrace("no column names a register, for example input or output")
    odd = [name for name in registers if not REGISTER.fullmatch(name)]
    if odd:
        raise BadTrace(f"{odd[0]!r} is neither a known column nor a register's name")


def _when(fact: dict[str, str], timed: str) -> int:
    if timed == "offset_s":
        return _seconds(fact[timed])
    return _microseconds(_instant(fact[timed]))


def _rows(text: TextIO, wanted: Sequence[str]) -> Iterator[list[str]]:
    rows = csv.reader(text)
    header = next(rows, [])
    missing = [name for name in wanted if name not in header]
    if missing:
        raise BadTrace(f"column {missing[0]!r} is missing; found {', '.join(header) or 'nothing'}")
    places = [header.index(name) for name in wanted]
    for values in rows:
        if len(values) != len(header):
            raise BadTrace(f"{len(values)} values under {len(header)} columns")
        yield [values[place] for place in places]


def _paired(header: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    if len(values) != len(header):
        raise BadTrace(f"{len(values)} values under {len(header)} columns")
    return dict(zip(header, values, strict=True))


def _json_object(line: str) -> dict[str, Any]:
    try:
        fact = json.loads(line)
    except ValueError as error:
        raise BadTrace(f"not JSON: {error}") from error
    wanted = {"timestamp", "input_length", "output_length", "hash_ids"}
    if not isinstance(fact, dict) or not wanted <= fact.keys():
        raise BadTrace(f"an object with {', '.join(sorted(wanted))} is expected")
    return fact


def _leading(blocks: Iterable[int], seen: set[int]) -> int:
    """How many blocks from the front were seen before: a prefix cache can serve no others."""
    count = 0
    for block in blocks:
        if block not in seen:
            break
        count += 1
    return count


def _counted(**quantities: int) -> dict[str, int]:
    """Leave out what was not used; a request that used nothing says so with one zero."""
    used = {register: quantity for register, quantity in quantities.items() if quantity}
    return used or {next(iter(quantities)): 0}


def _whole(value: object) -> int:
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    raise BadTrace(f"{value!r} is not a whole number")


def _seconds(text: str) -> int:
    try:
        offset_us = int(Decimal(text) * _SECOND_US)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise BadTrace(f"{text!r} is not a number of seconds") from error
    if offset_us < 0:
        raise BadTrace(f"{text!r} lies before the first instant")
    return offset_us


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadTrace(f"{text!r} is not an RFC 3339 instant") from error
    if moment.tzinfo is None:
        raise BadTrace(f"{text!r} has no time zone; write it with Z or an offset")
    return moment.astimezone(UTC)


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
