"""`manage.py rate`: what would these requests cost under this tariff, and why? No database."""

from __future__ import annotations

import csv
import json
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError

from billing.rating.bill import Bill, bill_events, load_of
from billing.rating.charge import Facts, read_facts
from billing.rating.document import Field, TariffInvalid
from billing.rating.event import Distinct, Event, distinct, read_event
from billing.rating.line import RatedLine
from billing.rating.money import from_minor, written
from billing.rating.period import Period, calendar_month, day_of
from billing.rating.rate import PricedTerms, sentences
from billing.rating.tariff import Terms, parse

COLUMNS = (
    "version", "component", "model", "register", "bucket", "step", "quantity", "unit_price", "per",
    "amount",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for, read and checked."""

    stretches: Sequence[PricedTerms]
    events: Distinct
    period: Period
    facts: Facts


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
            "--events", required=True, help="events as the API takes them, one JSON object a line"
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
            asked = _asked(options)
            found = bill_events(
                asked.events.events, asked.stretches, asked.facts,
                tax_percent=options["tax_percent"],
            )  # fmt: skip
        except TariffInvalid as refused:
            raise CommandError(str(refused)) from None
        except (OSError, ValueError) as wrong:
            raise CommandError(f"{wrong}. Nothing was rated.") from None
        match options["format"]:
            case "json":
                document = _document(found, asked, explain=options["explain"])
                self.stdout.write(json.dumps(document, indent=2))
            case "csv":
                self._csv(found)
            case _:
                for line in _table(found, asked, explain=options["explain"]):
                    self.stdout.write(line)

    def _csv(self, found: Bill) -> None:
        writer = csv.writer(self.stdout)
        writer.writerow(COLUMNS)
        writer.writerows(_row(line) for line in found.lines)


def percentage(text: str) -> Decimal:
    return Field(text).price()


def _asked(options: dict[str, Any]) -> Asked:
    try:
        zone = ZoneInfo(options["zone"])
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{options['zone']} is no IANA time zone; name one such as UTC") from None
    events = distinct(_events(Path(options["events"])))
    period = _period(options["start"], options["end"], zone, events.events)
    stretches = _stretches(options["tariff"], period)
    inside = [event for event in events.events if event.at("request_start") in period]
    facts = _facts(options["facts"], zone, inside)
    return Asked(stretches, Distinct(inside, events.duplicates, events.conflicts), period, facts)


def _events(path: Path) -> Iterator[Event]:
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        if text.strip():
            try:
                yield read_event(Field(json.loads(text)))
            except TariffInvalid as refused:
                raise ValueError(f"{path}, line {number}: {refused}") from None
            except json.JSONDecodeError as wrong:
                raise ValueError(f"{path}, line {number}: no JSON ({wrong})") from None


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
    try:
        return parse(json.loads(path.read_text()))
    except TariffInvalid as refused:
        raise ValueError(f"{path}: {refused}") from None
    except json.JSONDecodeError as wrong:
        raise ValueError(f"{path}: no JSON ({wrong})") from None


def _version(text: str, period: Period) -> tuple[datetime, Path]:
    path, at, instant = text.rpartition("@")
    if not at or Path(text).exists():
        return period.start, Path(text)
    return Field(instant).instant(), Path(path)


def _period(start: str | None, end: str | None, zone: ZoneInfo, events: Sequence[Event]) -> Period:
    if start is None and end is None:
        if not events:
            raise ValueError("there is no event to take the month of: name --from and --to")
        return calendar_month(zone, min(event.at("request_start") for event in events))
    if start is None or end is None:
        raise ValueError("name both --from and --to, or neither")
    return Period(_edge(start, zone), _edge(end, zone))


def _edge(text: str, zone: ZoneInfo) -> datetime:
    """Read an instant, or the midnight at which a local date begins."""
    if "T" in text:
        return Field(text).moment()
    return day_of(zone, date.fromisoformat(text)).start


def _facts(path: str | None, zone: ZoneInfo, events: Sequence[Event]) -> Facts:
    facts = Facts(zone, load=load_of(events))
    return facts if path is None else read_facts(Field(json.loads(Path(path).read_text())), facts)


def _row(line: RatedLine) -> list[str]:
    return [f"{getattr(line, name):f}" if isinstance(getattr(line, name), Decimal)
            else str(getattr(line, name)) for name in COLUMNS]  # fmt: skip


def _document(found: Bill, asked: Asked, *, explain: bool) -> dict[str, object]:
    lines = []
    for line in found.lines:
        shown: dict[str, object] = dict(zip(COLUMNS, _row(line), strict=True))
        shown |= {"quantity": line.quantity, "step": line.step, "per": line.per}
        shown["trace"] = line.trace
        lines.append(shown | ({"why": sentences(line, found.currency)} if explain else {}))
    return {
        "currency": found.currency,
        "from": asked.period.start.isoformat(),
        "to": asked.period.end.isoformat(),
        "lines": lines,
        "net": _money(found.net_minor, found),
        "tax": _money(found.tax_minor, found),
        "total": _money(found.total_minor, found),
        "events": len(asked.events.events),
        "duplicates": asked.events.duplicates,
        "conflicts": len(asked.events.conflicts),
    }


def _money(minor: int, found: Bill) -> str:
    return f"{from_minor(minor, found.currency):f}"


def _table(found: Bill, asked: Asked, *, explain: bool) -> Iterator[str]:
    shown = ("component", "model", "register", "bucket", "quantity", "unit_price", "per", "amount")
    rows = [shown, *(_cells(line, shown) for line in found.lines)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(shown))]
    right = {"quantity", "unit_price", "per", "amount"}
    for number, row in enumerate(rows):
        yield "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(shown, row, widths, strict=True)
        ).rstrip()
        if explain and number:
            for sentence in sentences(found.lines[number - 1], found.currency):
                yield f"    {sentence}"
    yield ""
    yield from _totals(found, asked)


def _cells(line: RatedLine, shown: Sequence[str]) -> tuple[str, ...]:
    of = dict(zip(COLUMNS, _row(line), strict=True))
    of |= {"quantity": f"{line.quantity:,}", "per": f"{line.per:,}"}
    return tuple(of[name] for name in shown)


def _totals(found: Bill, asked: Asked) -> Iterator[str]:
    start, end = (f"{one:%Y-%m-%d %H:%M}" for one in (asked.period.start, asked.period.end))
    yield f"{len(asked.events.events):,} events from {start} to {end} UTC"
    if asked.events.duplicates or asked.events.conflicts:
        yield (
            f"{asked.events.duplicates:,} duplicates left out; {len(asked.events.conflicts):,} "
            "with a known id and other facts left out"
        )
    yield f"net    {written(from_minor(found.net_minor, found.currency), found.currency)}"
    if found.tax_minor:
        yield f"tax    {written(from_minor(found.tax_minor, found.currency), found.currency)}"
    yield f"total  {written(from_minor(found.total_minor, found.currency), found.currency)}"
