"""manage.py replay FILE --format FORMAT: send a trace through the ingestion API and reconcile."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.models import Organization
from console import reconciling, replaying, sending
from console.journal import Journal
from console.reconciling import Books
from console.replaying import Replay, Trace
from workloads.sender import Tally
from workloads.traces import BadTrace, Format


class Command(BaseCommand):
    help = (
        "Replay a trace of requests as usage, through the ingestion API, then close what has "
        "ended and reconcile: file = events = readings = rated = invoiced, to the token."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--format", required=True, choices=[*Format], type=Format)
        who = parser.add_mutually_exclusive_group(required=True)
        who.add_argument("--organization", metavar="SLUG", help="everything is its usage")
        who.add_argument(
            "--organization-per-client",
            action="store_true",
            help="each client of the trace becomes the organization replay-<client>",
        )
        parser.add_argument(
            "--tariff",
            metavar="CODE",
            help="for organizations without a subscription; default: the preset of the currency",
        )
        parser.add_argument(
            "--zone", default="UTC", help="of organizations made for clients; default: UTC"
        )
        parser.add_argument("--model", default="", help="where the format names none")
        parser.add_argument(
            "--start",
            type=_instant,
            metavar="INSTANT",
            help="what the trace's first instant becomes, such as 2026-11-01T00:00:00Z; default: "
            "so that it lies within last month, or yesterday where that is too long ago",
        )
        parser.add_argument(
            "--speed", type=_speed, metavar="max|N", help="N times real time; default: max"
        )
        parser.add_argument("--limit", type=_speed, metavar="N", help="only the first N rows")
        parser.add_argument("--url", help="default: this machine's ingestion door")
        parser.add_argument("--no-invoice", action="store_true", help="close no period")
        parser.add_argument("--report", type=Path, metavar="FILE.json", help="write it there too")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        now = timezone.now()
        trace = self._read(options)
        replay = self._place(trace, options, now)
        tally = replaying.send(
            replay,
            url=options["url"] or sending.events_url(),
            speed=options["speed"],
            journal=_journal(replay),
        )
        self.stdout.write(f"sent        {tally}")
        books = replaying.settle(replay, invoice=not options["no_invoice"], now=timezone.now())
        self._tell(books)
        if options["report"]:
            _write_report(options["report"], replay, tally, books)
        if books.faults:
            raise CommandError("It does not balance:\n  " + "\n  ".join(books.faults))

    def _read(self, options: dict[str, Any]) -> Trace:
        try:
            trace = replaying.read_trace(
                options["file"], options["format"], model=options["model"], limit=options["limit"]
            )
        except (BadTrace, OSError) as error:
            raise CommandError(str(error)) from error
        summary = trace.summary
        self.stdout.write(
            f"file        {trace.path.name}: {summary.rows:,} rows, {len(summary.clients):,} "
            f"client(s), {', '.join(sorted(summary.models))}"
        )
        return trace

    def _place(self, trace: Trace, options: dict[str, Any], now: datetime) -> Replay:
        replaying.ensure_presets(now)
        tariff = replaying.tariff_of(options["tariff"]) if options["tariff"] else None
        by_client: dict[str, Organization]
        if options["organization_per_client"]:
            tariff = tariff or replaying.tariff_for("USD")
            by_client = replaying.per_client(trace, tariff, options["zone"], now)
        else:
            by_client = {"": replaying.existing(options["organization"])}
        who = list(by_client.values())
        start, why = replaying.choose_start(trace, options["start"], who, who[0].zone, now)
        replay = Replay(trace, start, by_client, tariff)
        first, last = trace.within(start)
        self.stdout.write(f"placed      {first:%F %T} to {last:%F %T} UTC ({why})")
        replaying.check_window(trace, start, now, options["speed"])
        replaying.look_for_invoices(replay)
        return replay

    def _tell(self, books: Books) -> None:
        self.stdout.write("")
        for line in reconciling.table(books):
            self.stdout.write(line)
        self.stdout.write("")
        for note in reconciling.notes(books):
            self.stdout.write(note)


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an instant such as 2026-11-01T00:00:00Z")
    return moment


def _speed(text: str) -> int | None:
    if text == "max":
        return None
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither max nor a whole number from 1")
    return int(text)


def _journal(replay: Replay) -> Journal:
    name = replay.trace.source.replace(":", "-")
    return Journal(settings.HOME / "replays" / f"{name}-{replay.organizations[0].slug}.json")


def _write_report(path: Path, replay: Replay, tally: Tally, books: Books) -> None:
    report = {
        "file": replay.trace.path.name,
        "source": replay.trace.source,
        "rows": replay.trace.summary.rows,
        "start": replay.start.isoformat(),
        "organizations": len(replay.organizations),
        "sent": {name: getattr(tally, name) for name in tally.__slots__},
        "registers": {
            register: {
                name.replace(" ", "_"): books.column(name)[register] for name in reconciling.COLUMNS
            }
            for register in books.registers()
        },
        "invoices": books.invoices,
        "differences": books.faults,
        "balanced": not books.faults,
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
