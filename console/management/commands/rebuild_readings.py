"""manage.py rebuild_readings: readings made anew from the events they are the sums of."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from console import replaying
from metering import rollup


class Command(BaseCommand):
    help = (
        "Make readings anew from events, organization by organization. What they add up to stays; "
        "what they tell apart is what this version tells apart. Safe at any time, and to repeat."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", nargs="+", metavar="SLUG", default=[])
        parser.add_argument("--all", action="store_true", help="every organization")

    def handle(self, *_arguments: Any, **options: Any) -> None:
        slugs, everybody = options["organization"], options["all"]
        if bool(slugs) == everybody:
            raise CommandError("Name organizations with --organization, or all of them with --all.")
        chosen = (
            Organization.objects.order_by("slug") if everybody else map(replaying.existing, slugs)
        )
        for organization in chosen:
            rollup.rebuild(organization.pk)
            self.stdout.write(f"{organization.slug}: readings made anew")
