"""`manage.py what_if`: past periods under another tariff, old beside new. Nothing is written."""

from __future__ import annotations

import csv
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import Organization
from billing import what_if
from billing.catalog import TariffRefused
from billing.comparisons import Verdict
from billing.models import Tariff
from billing.rating import strict_json
from billing.rating.document import Field, TariffInvalid
from billing.rating.money import from_minor
from billing.what_if import Alternative, Answer, Compared

LEFT_OUT = {
    Verdict.OTHER_CURRENCY: "in another currency",
    Verdict.NO_PRICES: "because the tariff had no prices then",
    Verdict.NOT_TOLD_APART: "because readings do not tell its sizes of requests apart",
    Verdict.COST_UNKNOWN: "because a cost that is passed on is not known",
}
COLUMNS = ("organization", "periods", "old", "new", "difference", "currency", "unpriced")


class Command(BaseCommand):
    help = "Compare what past billing periods cost with what another tariff would have charged."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tariff", required=True, help="a tariff's code, or a document's file")
        parser.add_argument("--from", dest="first", required=True, type=day, help="a local date")
        parser.add_argument("--to", dest="last", required=True, type=day, help="excluded")
        parser.add_argument("--organization", help="a slug; all of them if left out")
        parser.add_argument("--format", choices=("table", "csv", "json"), default="table")

    def handle(self, *args: object, **options: Any) -> None:
        if not options["first"] < options["last"]:
            raise CommandError("--to must lie after --from; it is not part of the range.")
        try:
            other = Alternative(_source(options["tariff"]))
            whose = _organization(options["organization"])
            answer = what_if.compare(
                other, options["first"], options["last"], timezone.now(), organization=whose
            )
        except (TariffInvalid, TariffRefused, strict_json.NotStrict, OSError) as refused:
            raise CommandError(f"{options['tariff']}: {refused}") from None
        match options["format"]:
            case "json":
                self.stdout.write(json.dumps(document(other, answer), indent=2))
            case "csv":
                writer = csv.writer(self.stdout)
                writer.writerow(COLUMNS)
                writer.writerows(_row(one) for one in answer.compared)
            case _:
                for line in _table(other, answer):
                    self.stdout.write(line)


def day(text: str) -> date:
    return Field(text).day()


def document(other: Alternative, answer: Answer) -> dict[str, object]:
    """The answer as JSON values; money is text."""
    return {
        "tariff": other.name,
        "currency": other.currency,
        "organizations": [
            dict(zip(COLUMNS, _row(one), strict=True))
            | {"periods": one.periods, "unpriced": one.unpriced}
            for one in answer.compared
        ],
        "old": _money(answer.old_minor, other.currency),
        "new": _money(answer.new_minor, other.currency),
        "winners": len(answer.winners),
        "losers": len(answer.losers),
        **{verdict: _slugs(answer, verdict) for verdict in LEFT_OUT},
    }


def _source(text: str) -> Tariff | dict[str, object]:
    """A published tariff by its code, or else the document in the file of that name."""
    tariff = Tariff.objects.filter(code=text).first()
    if tariff is not None:
        return tariff
    value = strict_json.read(Path(text).read_bytes())
    if not isinstance(value, dict):
        raise CommandError(f"{text}: the file holds no tariff document, which is an object.")
    return value


def _organization(slug: str | None) -> Organization | None:
    if slug is None:
        return None
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"There is no organization {slug}.")
    return found


def _row(one: Compared) -> list[str]:
    return [
        one.organization.slug,
        str(one.periods),
        _money(one.old_minor, one.currency),
        _money(one.new_minor, one.currency),
        _money(one.difference_minor, one.currency),
        one.currency,
        str(one.unpriced),
    ]


def _money(minor: int, currency: str) -> str:
    return f"{from_minor(minor, currency):f}"


def _table(other: Alternative, answer: Answer) -> Iterator[str]:
    rows = [list(COLUMNS), *(_row(one) for one in answer.compared)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    for row in rows:
        name, *numbers = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([name.strip().ljust(widths[0]), *numbers]).rstrip()
    difference = answer.new_minor - answer.old_minor
    yield ""
    yield (
        f"{len(answer.winners):,} cheaper under {other.name}, {len(answer.losers):,} dearer; "
        f"{_money(answer.old_minor, other.currency)} becomes "
        f"{_money(answer.new_minor, other.currency)} {other.currency} "
        f"({_money(difference, other.currency)})"
    )
    if unpriced := sum(one.unpriced for one in answer.compared):
        yield f"{unpriced:,} units have no price under {other.name} and cost nothing there"
    for verdict, why in LEFT_OUT.items():
        if names := ", ".join(_slugs(answer, verdict)):
            yield f"left out, {why}: {names}"


def _slugs(answer: Answer, verdict: Verdict) -> list[str]:
    return [one.organization.slug for one in answer.which(verdict)]
