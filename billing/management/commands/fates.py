"""What became of all events of a billing period, however many; 1 where the fates do not add up."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import Organization
from billing import fate_totals
from billing.fate_totals import FateTotals


class Command(BaseCommand):
    help = (
        "Count an organization's events of a billing period by fate, and hold it to the readings."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("organization", help="its slug")
        parser.add_argument("--period", help="the instant it begins at; the newest if left out")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = Organization.objects.filter(slug=options["organization"]).first()
        if organization is None:
            raise CommandError(f"there is no organization {options['organization']!r}")
        now = timezone.now()
        periods = fate_totals.periods(organization, now)
        chosen = fate_totals.chosen(periods, options["period"] or "")
        starts = [period.start.isoformat() for _, period in periods]
        if chosen is None:
            raise CommandError(f"{organization} was on no tariff yet")
        if options["period"] not in (None, *starts):
            raise CommandError(f"no period begins at {options['period']}; {', '.join(starts)} do")
        subscription, period = chosen
        self._count(subscription.pk, period.start, now)
        totals = fate_totals.of_period(subscription, period, now)
        self.stdout.write(f"{organization}, {period.start.isoformat()} to {period.end.isoformat()}")
        self._write(totals)
        if totals.astray:
            sys.exit(1)

    def _count(self, subscription_id: int, start: datetime, now: datetime) -> None:
        """Block by block, so that it can be ended and begun again."""
        while progress := fate_totals.count_on(
            subscription_id, start, now, is_time_up=lambda: True
        ):
            if progress.is_done:
                return
            self.stderr.write(f"{progress.counted:,} of {progress.events:,} events counted")

    def _write(self, totals: FateTotals) -> None:
        for one in totals.fates:
            self.stdout.write(f"{one.fate:<10}{one.events:>16,} events")
            for verdict, events in one.reasons:
                self.stdout.write(f"{'':<10}{events:>16,} {verdict.sentence}")
        for register in totals.registers:
            parts = ", ".join(
                f"{fate} {quantity:,}" for fate, quantity in register.by_fate.items() if quantity
            )
            self.stdout.write(f"{register.register}: {parts}; together {register.total:,}")
        for register in totals.astray:
            self.stdout.write(
                f"{register.register} does not add up: {register.by_events:,} by the events, "
                f"{register.in_readings:,} in the readings"
            )
        if not totals.astray:
            self.stdout.write("It adds up: what the events used is what the readings hold.")
