"""Import a list of upstream prices as proposals; a person approves them in the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import upstream
from billing.feeds import genai, litellm
from billing.feeds.listing import FeedRefused

FAULTS_SHOWN_MAX = 20


class Command(BaseCommand):
    """`manage.py import_costs --from genai-prices`, or from a file with LiteLLM's map of models."""

    help = "Propose what upstreams charge, from genai-prices or from a file with LiteLLM's map."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from",
            dest="source",
            required=True,
            help="genai-prices, or the path of a model_prices_and_context_window.json",
        )

    def handle(self, *args: Any, source: str, **options: Any) -> None:
        now = timezone.now()
        try:
            if source == genai.SOURCE:
                listing = genai.read(now.date())
            else:
                listing = litellm.read(Path(source).read_bytes())
        except (FeedRefused, OSError) as refused:
            raise CommandError(f"Nothing was proposed: {refused}") from None
        made = upstream.propose(listing, actor=None, now=now)
        for fault in listing.faults[:FAULTS_SHOWN_MAX]:
            self.stdout.write(f"not taken: {fault.pointer} {fault.detail}")
        if (more := len(listing.faults) - FAULTS_SHOWN_MAX) > 0:
            self.stdout.write(f"not taken: {more} more, on the import's page in the console")
        self.stdout.write(
            f"{made}: {made.priced} prices, {made.proposals.count()} proposed, "
            f"{made.proposals.exclude(jump='').count()} of them jump. Nothing changed yet."
        )
