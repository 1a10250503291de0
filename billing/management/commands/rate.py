"""`manage.py rate`: what would these requests cost under this tariff, and why? No database."""

from __future__ import annotations

import csv
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError

from billing.rating import statement, strict_json
from billing.rating.bill import Bill
from billing.rating.charge import Facts, read_facts
from billing.rating.document import Field, TariffInvalid
from billing.rating.event import Event, read_event
from billing.rating.gathering import Gathered, Outcome, gathered
from billing.rating.line import RatedLine
from billing.rating.money import from_minor, written
from billing.rating.period import Period, calendar_month, day_of
from billing.rating.rate import PricedTerms, sentences
from billing.rating.statement import COLUMNS, Counted
from billing.rating.tariff import Terms, parse

STDIN = "-"
LINE_BYTES_MAX = 1_048_576
SHOWN = ("component", "model", "register", "bucket", "quantity", "unit_price", "per", "amount")
RIGHT = {"quantity", "unit_price", "per", "amount"}


@dataclass(frozen=True, slots=True)
class Rated:
    """A bill, what it is of, and how many events it was made from."""

    bill: Bill
    period: Period
    counted: Counted


class Command(BaseCommand):
    help = "Rate events against a tariff document: lines, traces and totals. Needs no database."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--tariff",
            action="append",
            required=True,
            metavar="T.json[@INSTANT]",
            help="a tariff document; again with @INSTANT for a version that follows from then on",
        )
        parser.add_argument(
            "--events",
            required=True,
            help="events as the API takes them, one JSON object a line; - reads them from stdin",
        )
        parser.add_argument("--from", dest="start", help="a local date or an instant with offset")
        parser.add_argument("--to", dest="end", help="the same, excluded; both left out: the month")
        parser.add_argument("--zone", default="UTC", help="the account's IANA zone")
        parser.add_argument("--facts", help="JSON: what charges rest on besides usage")
        parser.add_argument("--tax-percent", type=percentage, default=Decimal(0))
        parser.add_argument("--format", choices=("json", "table", "csv"), default="table")
        parser.add_argument("--explain", action="store_true", help="say why, in sentences")

    def handle(self, *args: object, **options: Any) -> None:
        try:
            rated = _rated(options)
        except TariffInvalid as refused:
            raise CommandError(str(refused)) from None
        except (OSError, ValueError) as wrong:
            raise CommandError(f"{wrong}. Nothing was rated.") from None
        match options["format"]:
            case "json":
                document = statement.statement(
                    rated.bill, rated.period, rated.counted, explain=options["explain"]
                )
                self.stdout.write(statement.written(document), ending="")
            case "csv":
                writer = csv.writer(self.stdout)
                writer.writerow(COLUMNS)
                writer.writerows(statement.row(line) for line in rated.bill.lines)
            case _:
                for line in _table(rated, explain=options["explain"]):
                    self.stdout.write(line)


def percentage(text: str) -> Decimal:
    return Field(text).price()


def _rated(options: dict[str, Any]) -> Rated:
    try:
        zone = ZoneInfo(options["zone"])
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{options['zone']} is no IANA time zone; name one such as UTC") from None
    period = _period(options["start"], options["end"], zone, options["events"])
    stretches = _stretches(options["tariff"], period)
    found = gathered(_events(options["events"]), period, stretches)
    facts = _facts(options["facts"], zone, found)
    bill = found.bill(facts, tax_percent=options["tax_percent"])
    counts = found.counts
    counted = Counted(counts[Outcome.TAKEN], counts[Outcome.DUPLICATE], counts[Outcome.CONFLICT])
    return Rated(bill, period, counted)


def _events(path: str) -> Iterator[Event]:
    """Read events line by line: the file may be larger than memory."""
    name = "stdin" if path == STDIN else path
    with sys.stdin.buffer if path == STDIN else Path(path).open("rb") as lines:
        number = 0
        while line := lines.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                raise ValueError(f"{name}, line {number}: longer than {LINE_BYTES_MAX:,} bytes")
            if line.strip():
                yield _event(line, f"{name}, line {number}")


def _event(line: bytes, where: str) -> Event:
    try:
        return read_event(Field(strict_json.read(line)))
    except (TariffInvalid, strict_json.NotStrict) as refused:
        raise ValueError(f"{where}: {refused}") from None


def _stretches(tariffs: Sequence[str], period: Period) -> list[PricedTerms]:
    """Return the versions, each from its instant until the next one's, as far as the period."""
    versions = sorted((_version(text, period) for text in tariffs), key=lambda one: one[0])
    if versions[0][0] > period.start:
        raise ValueError("the first tariff must hold from the start: name it without an instant")
    ends = [start for start, _ in versions[1:]] + [period.end]
    found = []
    for (opens, path), closes in zip(versions, ends, strict=True):
        start, end = max(opens, period.start), min(closes, period.end)
        if start < end:
            found.append(PricedTerms(path.stem, Period(start, end), _terms(path)))
    return found


def _terms(path: Path) -> Terms:
    source = _document(path)
    try:
        return parse(source)  # type: ignore[arg-type]  # what is no object is refused by name
    except TariffInvalid as refused:
        raise ValueError(f"{path}: {refused}") from None


def _document(path: Path) -> object:
    try:
        return strict_json.read(path.read_bytes())
    except strict_json.NotStrict as wrong:
        raise ValueError(f"{path}: {wrong}") from None


def _version(text: str, period: Period) -> tuple[datetime, Path]:
    path, at, instant = text.rpartition("@")
    if not at or Path(text).exists():
        return period.start, Path(text)
    return Field(instant).instant(), Path(path)


def _period(start: str | None, end: str | None, zone: ZoneInfo, events: str) -> Period:
    if start is None and end is None:
        if events == STDIN:
            raise ValueError("events from stdin are read once: name --from and --to")
        earliest = min((one.at("request_start") for one in _events(events)), default=None)
        if earliest is None:
            raise ValueError("there is no event to take the month of: name --from and --to")
        return calendar_month(zone, earliest)
    if start is None or end is None:
        raise ValueError("name both --from and --to, or neither")
    return Period(_edge(start, zone), _edge(end, zone))


def _edge(text: str, zone: ZoneInfo) -> datetime:
    """Read an instant, or the midnight at which a local date begins."""
    if "T" in text:
        return Field(text).moment()
    return day_of(zone, date.fromisoformat(text)).start


def _facts(path: str | None, zone: ZoneInfo, found: Gathered) -> Facts:
    facts = Facts(zone, load=found.load)
    return facts if path is None else read_facts(Field(_document(Path(path))), facts)


def _table(rated: Rated, *, explain: bool) -> Iterator[str]:
    rows = [SHOWN, *(_cells(line) for line in rated.bill.lines)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(SHOWN))]
    for number, row in enumerate(rows):
        yield "  ".join(
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(SHOWN, row, widths, strict=True)
        ).rstrip()
        if explain and number:
            for sentence in sentences(rated.bill.lines[number - 1], rated.bill.currency):
                yield f"    {sentence}"
    yield ""
    yield from _totals(rated)


def _cells(line: RatedLine) -> tuple[str, ...]:
    of = dict(zip(COLUMNS, statement.row(line), strict=True))
    of |= {"quantity": f"{line.quantity:,}", "per": f"{line.per:,}"}
    return tuple(of[name] for name in SHOWN)


def _totals(rated: Rated) -> Iterator[str]:
    start, end = (f"{one:%Y-%m-%d %H:%M}" for one in (rated.period.start, rated.period.end))
    counted, bill = rated.counted, rated.bill
    yield f"{counted.events:,} events from {start} to {end} UTC"
    if counted.duplicates or counted.conflicts:
        yield (
            f"{counted.duplicates:,} duplicates left out; {counted.conflicts:,} "
            "with a known id and other facts left out"
        )
    yield f"net    {written(from_minor(bill.net_minor, bill.currency), bill.currency)}"
    if bill.tax_minor:
        yield f"tax    {written(from_minor(bill.tax_minor, bill.currency), bill.currency)}"
    yield f"total  {written(from_minor(bill.total_minor, bill.currency), bill.currency)}"
