"""Publish a preset as a tariff of this installation; again changes nothing."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from billing import catalog
from billing.presets import PRESETS


class Command(BaseCommand):
    """`manage.py publish_preset qwen-singapore-usd industrial-usd`."""

    help = "Publish presets as tariffs; those that are there already stay as they are."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("codes", nargs="+", choices=sorted(PRESETS), metavar="CODE")

    def handle(self, *args: Any, codes: list[str], **options: Any) -> None:
        for code in codes:
            tariff = catalog.publish_preset(code, timezone.now())
            self.stdout.write(f"{tariff.code}: {tariff.description}")
