"""manage.py simulate: seeded usage with the shape of real workloads, through the ingestion API."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from console import replaying, sending, simulating
from console.simulating import Simulation

DAYS_MAX = 34  # events may be 35 days old when they arrive
SCALE_MAX = 10_000


class Command(BaseCommand):
    help = (
        "Send made-up usage with the shape of real workloads: a few heavy clients, bursts, days "
        "and weekends, warm caches, duplicates and late events. Same seed and same end, same "
        "events: sent again they are duplicates."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", nargs="+", required=True, metavar="SLUG")
        parser.add_argument("--days", type=_days, default=7, help=f"1 to {DAYS_MAX}; default: 7")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument(
            "--scale",
            type=_scale,
            default=Decimal(1),
            help=f"times {simulating.REQUESTS_PER_DAY:,} requests a day; default: 1",
        )
        parser.add_argument("--end", type=_end, default=None, help="an instant; default: now")
        parser.add_argument("--url", help="default: this machine's ingestion door")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        now = timezone.now()
        end = options["end"] or now.replace(second=0, microsecond=0)
        who = [replaying.existing(slug) for slug in options["organization"]]
        for organization in who:
            simulation = Simulation(
                organization,
                simulating.mix_of(organization, scale=options["scale"]),
                options["seed"],
                end - timedelta(days=options["days"]),
                end,
            )
            self.stdout.write(
                f"{organization.slug}: {simulation.start:%F %T} to {end:%F %T} UTC, "
                f"about {simulation.expected():,} events as {simulation.source}"
            )
            tally = simulating.send(simulation, url=options["url"] or sending.events_url(), now=now)
            self.stdout.write(f"{organization.slug}: {tally}")
        sending.wait_until_applied([organization.pk for organization in who])
        self.stdout.write("all of it is in the readings")


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= DAYS_MAX:
        raise argparse.ArgumentTypeError(f"between 1 and {DAYS_MAX}: older events are not accepted")
    return days


def _scale(text: str) -> Decimal:
    try:
        scale = Decimal(text)
    except InvalidOperation:
        scale = Decimal("NaN")
    if not scale.is_finite() or not 0 < scale <= SCALE_MAX:
        raise argparse.ArgumentTypeError(f"a number above 0 and up to {SCALE_MAX:,}")
    return scale


def _end(text: str) -> datetime | None:
    if text == "now":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an instant such as 2026-11-01T00:00:00Z")
    return moment.astimezone(UTC)
