"""Invoices: the list, one document, and its lines as a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts import organizations
from accounts.permissions import Action
from billing import costs, spreadsheet
from billing.models import Invoice, InvoiceLine
from billing.rating.charge import MINOR
from billing.rating.line import ALLOWANCE, UNPRICED
from billing.rating.money import from_minor
from billing.rating.pass_through import PROVIDER_COST
from portal import figures
from portal.door import Entry, member_page

COLUMNS = (
    "invoice", "position", "usage_start", "usage_end", "model", "register", "bucket", "component",
    "tariff_version", "quantity", "unit_price", "per", "amount_exact", "amount", "currency",
    "description", "kind", "corrects",
)  # fmt: skip


_PER_OF_CHARGE = {
    "days": "a day",
    "periods": "a billing period",
    "tpm": "per thousand a minute",
    "input_tpm_quarter_hours": "per thousand a minute and quarter-hour",
    "output_tpm_quarter_hours": "per thousand a minute and quarter-hour",
}


@dataclass(frozen=True, slots=True)
class ShownLine:
    """A line under its model's name: what is left to say, and how its price reads."""

    line: InvoiceLine
    label: str
    per: str
    free: bool
    prices: int  # how many, where it is not one
    amount_only: bool  # it follows from other lines: units of money at a unit of money


@dataclass(frozen=True, slots=True)
class ModelLines:
    """The lines of one model, and what they come to."""

    model: str  # "": charges that are of no model
    lines: list[ShownLine]
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What an earlier period now costs more or less, by the same usage's lines."""

    start: datetime
    end: datetime
    models: list[ModelLines]
    amount_minor: int


def issued_to(entry: Entry) -> QuerySet[Invoice]:
    """The documents this member may see."""
    return entry.organization.invoices.visible_to(entry.user)


@require_GET
@member_page(Action.SEE_MONEY)
def index(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Every document, newest first; what is still open stands above them."""
    now = timezone.now()
    context = {
        "invoices": _newest_first(issued_to(entry))[:500],
        "cost": costs.so_far(entry.organization, now),
        "now": now,
    }
    return render(request, "portal/invoices.html", context)


@require_GET
@member_page(Action.SEE_MONEY)
def show(request: HttpRequest, entry: Entry, number: str) -> HttpResponse:
    """One document, as it was issued."""
    documents = issued_to(entry).select_related("replaces", "corrects")
    invoice = get_object_or_404(documents, number=number)
    lines = list(invoice.lines.order_by("position"))
    own = [line for line in lines if line.usage_start == invoice.period_start]
    context = {
        "invoice": invoice,
        "models": _by_model(own),
        "differences": _differences(invoice, lines),
        "notes": invoice.notes.exclude(status=Invoice.Status.DRAFT).order_by("issued_at", "pk"),
        "seller": invoice.seller,
        "buyer": invoice.buyer,
        "buyer_address": _address(invoice.buyer),
    }
    return render(request, "portal/invoice.html", context)


@require_GET
@member_page(Action.SEE_MONEY)
def download(request: HttpRequest, entry: Entry, number: str) -> HttpResponseBase:
    """The lines as CSV: exact amounts, and whole minor units as on the document."""
    invoice = get_object_or_404(issued_to(entry).select_related("corrects"), number=number)
    return spreadsheet.download(f"{invoice.number}.csv", _rows(invoice))


def _newest_first(documents: QuerySet[Invoice]) -> QuerySet[Invoice]:
    """By period, and within one as issued: a note stands above its invoice."""
    return documents.select_related("corrects").order_by("-period_end", "-issued_at", "-pk")


def _rows(invoice: Invoice) -> Iterator[list[spreadsheet.Cell]]:
    yield list(COLUMNS)
    for line in invoice.lines.order_by("position").iterator(chunk_size=500):
        yield [
            invoice.number,
            line.position,
            line.usage_start.isoformat(),
            line.usage_end.isoformat(),
            line.model,
            line.register,
            line.bucket,
            line.component,
            line.version,
            line.quantity,
            "" if line.unit_price is None else _plain(line.unit_price),
            line.per,
            _plain(line.amount_exact),
            from_minor(line.amount_minor, invoice.currency),
            invoice.currency,
            line.description,
            invoice.kind,
            str(invoice.corrects or ""),
        ]


def shown(line: InvoiceLine) -> ShownLine:
    """A line as it stands under the heading of its model."""
    label = line.description.removeprefix(f"{line.model}: ").partition(", difference for")[0]
    return ShownLine(
        line=line,
        label=label[:1].upper() + label[1:],
        per=_PER_OF_CHARGE.get(line.register) or figures.per(line.per),
        free=line.component == UNPRICED or line.component.startswith(ALLOWANCE),
        prices=len({price for price, _ in line.trace.get("parts", [])}),
        amount_only=line.register in (MINOR, PROVIDER_COST),
    )


def _address(buyer: dict[str, str]) -> list[str]:
    place = f"{buyer.get('postal_code', '')} {buyer.get('city', '')}".strip()
    country = organizations.countries().get(buyer.get("country", ""), buyer.get("country", ""))
    parts = [buyer.get("address_line1", ""), buyer.get("address_line2", ""), place, country]
    return [part for part in parts if part]


def _plain(amount: Decimal) -> Decimal:
    """The same number without the idle zeros of its column."""
    return amount.normalize() if amount else Decimal(0)


def _by_model(lines: list[InvoiceLine]) -> list[ModelLines]:
    """In the order in which the models first stand on the document."""
    order = {line.model: line.position for line in reversed(lines)}
    found = []
    for model in sorted(order, key=lambda name: order[name]):
        of_model = [line for line in lines if line.model == model]
        amount_minor = sum(line.amount_minor for line in of_model)
        found.append(ModelLines(model, [shown(line) for line in of_model], amount_minor))
    return found


def _differences(invoice: Invoice, lines: list[InvoiceLine]) -> list[Difference]:
    def usage(line: InvoiceLine) -> tuple[datetime, datetime]:
        return line.usage_start, line.usage_end

    earlier = [line for line in lines if line.usage_start != invoice.period_start]
    return [
        Difference(*period, _by_model(of_period), sum(line.amount_minor for line in of_period))
        for period, group in groupby(sorted(earlier, key=usage), key=usage)
        for of_period in [list(group)]
    ]
