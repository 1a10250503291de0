"""manage.py demo: three organizations with five weeks of usage and an invoice each."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.models import Organization, User
from billing import catalog
from console import demo, sending, simulating
from console.demo import Cast


class Command(BaseCommand):
    help = "Make the demo, or finish one that was interrupted; then say how to sign in."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sign-ins", action="store_true", help="only say how to sign in")
        parser.add_argument("--url", help="default: this machine's ingestion door")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        if not options["sign_ins"]:
            self._make(options["url"] or sending.events_url())
        self._tell_sign_ins()

    def _make(self, url: str) -> None:
        catalog.ensure_presets(timezone.now())
        made = demo.make_cast(timezone.now())
        left = [(cast, one) for cast, one in made if not demo.is_complete(one)]
        for cast, organization in left:
            self._send(cast, organization, url)
        if left:
            sending.wait_until_applied([organization.pk for _, organization in left])
        for cast, organization in left:
            demo.complete(cast, organization, timezone.now())
        for _, organization in made:
            numbers = [str(invoice.number) for invoice in demo.invoices(organization)]
            if not numbers:
                raise CommandError(f"{organization} has no invoice; see the console for why.")
            self.stdout.write(f"{organization}: {', '.join(numbers)}")

    def _send(self, cast: Cast, organization: Organization, url: str) -> None:
        simulation = demo.simulation(cast, organization)
        self.stdout.write(f"{organization}: about {simulation.expected():,} events")
        tally = simulating.send(simulation, url=url, now=timezone.now())
        self.stdout.write(f"{organization}: {tally}")

    def _tell_sign_ins(self) -> None:
        if not User.objects.filter(email=demo.STAFF_EMAIL).exists():
            raise CommandError("There is no demo here yet; make it with: manage.py demo")
        self.stdout.write(f"Sign in at {settings.PUBLIC_URL} with one of these:")
        for one in demo.sign_ins():
            self.stdout.write(f"  {one.email:<28} {one.password}  {one.what}")
