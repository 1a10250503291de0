"""What if: past periods under another tariff, all organizations side by side.

Whoever may see the console may ask: nothing of what is billed changes. The work is done in the
background (`billing.comparing`); a page shows how far it is and, from the first answer on, what was
found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import DecimalField, F, QuerySet, Value
from django.db.models.functions import Cast, NullIf
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import Organization, User
from billing import comparing, side_by_side, spreadsheet, tasks
from billing.comparisons import COMPARED, LEFT_OUT, ComparedOrganization, Comparison, Verdict
from billing.rating.break_even import Point, break_even_sentences, times
from billing.rating.money import from_minor
from billing.what_if import NOTES, Note
from console import what_if_figures as figures
from console.entrance import may_act, staff_only
from console.staff import money
from console.steps import REFUSALS, field_and_sentence
from console.what_if_form import WhatIfForm

RUNS_MAX = 50
ROWS_PER_PAGE = 50
ENDS_MAX = 5  # of the winners and of the losers
LEFT_OUT_MAX = 100
LINES_MAX = 400
COLUMNS = (
    ("organization", "Organization", "organization__slug"),
    ("periods", "Periods", "periods"),
    ("old", "Now", "old_minor"),
    ("new", "Other tariff", "new_minor"),
    ("difference", "Difference", "difference"),
    ("percent", "Percent", "ratio"),
)
FILE_COLUMNS = (
    "organization", "verdict", "periods", "old", "new", "difference", "currency", "unpriced",
    "newly_priced", "notes",
)  # fmt: skip


@require_http_methods(["GET", "POST"])
@staff_only
def index(request: HttpRequest) -> HttpResponse:
    """Ask a question, or go back to an answer."""
    now = timezone.now()
    posted = request.method == "POST"
    form = WhatIfForm(request.POST if posted else None, initial=_asked_for(request), now=now)
    if posted and form.is_valid():
        assert isinstance(request.user, User)
        try:
            with transaction.atomic():
                run = form.ask(request.user, now)
                transaction.on_commit(lambda: tasks.work_on_comparison.delay(run.pk, run.turn))
            return redirect("console:what_if_run", run.pk)
        except REFUSALS as refusal:
            field, sentence = field_and_sentence(refusal, form.written)
            form.add_error(form.field_of(field), sentence)
    context = {
        **admin.site.each_context(request),
        "title": "What if",
        "form": form,
        "runs": Comparison.objects.filter(expires_at__gt=now).select_related("asked_by")[:RUNS_MAX],
        "kept_days": comparing.KEPT.days,
    }
    return render(request, "console/what_if.html", context, status=422 if form.errors else 200)


@require_GET
@staff_only
def show(request: HttpRequest, run_id: int) -> HttpResponse:
    """How far a run is, and what it found; htmx asks for the first part alone."""
    run = _run(run_id)
    progress = _progress(request, run)
    if request.htmx:  # type: ignore[attr-defined]
        response = render(request, "console/what_if_progress.html", progress)
        if run.state != Comparison.State.RUNNING:
            response["HX-Refresh"] = "true"
        return response
    context = {**admin.site.each_context(request), "title": str(run), **progress, **_found(run)}
    context |= _table(request, run)
    return render(request, "console/what_if_run.html", context)


@require_GET
@staff_only
def download(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Every organization of a run as CSV, those left out too."""
    run = _run(run_id)
    return spreadsheet.download(f"what-if-{run.pk}.csv", _lines(run))


@require_POST
@staff_only
def cancel(request: HttpRequest, run_id: int) -> HttpResponse:
    """Stop a run; only who asked for it, or a superuser."""
    run = _run(run_id)
    if run.asked_by_id != request.user.pk and not may_act(request):
        messages.error(request, f"Only {run.asked_by} or a superuser may cancel it.")
    elif comparing.cancel(run, timezone.now()):
        messages.success(request, "Cancelled. What was found until then stays.")
    return redirect("console:what_if_run", run.pk)


@require_GET
@staff_only
def organization(request: HttpRequest, run_id: int, organization_id: int) -> HttpResponse:
    """One organization of a run, line by line, metered again."""
    run = _run(run_id)
    rows = run.rows.select_related("organization")
    row = get_object_or_404(rows, organization=organization_id)
    sides = comparing.sides(run, row.organization) if row.verdict in COMPARED else None
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": f"{row.organization} under {run.name}",
        "run": run,
        "row": row,
        "verdict": row.get_verdict_display(),
        "notes": _notes(row),
    }
    if sides is not None:
        now = sides.compared()
        items = side_by_side.items(sides)
        context |= {
            "compared": now,
            "amounts": _amounts(now.old_minor, now.new_minor, run.currency),
            "changed": (now.old_minor, now.new_minor) != (row.old_minor, row.new_minor),
            "then": _amounts(row.old_minor, row.new_minor, run.currency),
            "items": [_item(item, run.currency) for item in items[:LINES_MAX]],
            "items_left": max(len(items) - LINES_MAX, 0),
            **_break_even([] if now.unpriced else sides.points(), run),
        }
    return render(request, "console/what_if_organization.html", context)


def _run(run_id: int) -> Comparison:
    runs = Comparison.objects.select_related("asked_by", "tariff")
    run = runs.filter(pk=run_id, expires_at__gt=timezone.now()).first()
    if run is None:
        raise Http404
    return run


def _asked_for(request: HttpRequest) -> dict[str, Any]:
    """What a link from another page fills in."""
    return {name: request.GET[name] for name in ("other", "organizations") if name in request.GET}


def _progress(request: HttpRequest, run: Comparison) -> dict[str, Any]:
    counts = comparing.tally(run)
    total = sum(counts.values())
    compared = sum(counts.get(verdict, 0) for verdict in COMPARED)
    curves, curves_all = comparing.curves(run)
    return {
        "run": run,
        "running": run.state == Comparison.State.RUNNING,
        "total": total,
        "looked_at": total - counts.get(Verdict.WAITING, 0),
        "compared": compared,
        "curves": curves,
        "curves_all": curves_all,
        "counts": counts,
        "may_cancel": run.asked_by_id == request.user.pk or may_act(request),
    }


def _found(run: Comparison) -> dict[str, Any]:
    rows = _compared(run)
    ends = rows.order_by("difference", "organization__slug")
    found = figures.bands(rows.values_list("old_minor", "new_minor"))
    return {
        "amounts": _amounts(*comparing.totals(run), run.currency),
        "winners": _rows(ends.filter(verdict=Verdict.CHEAPER)[:ENDS_MAX], run),
        "losers": _rows(ends.filter(verdict=Verdict.DEARER).reverse()[:ENDS_MAX], run),
        "unpriced": run.rows.filter(unpriced__gt=0).count(),
        "bands": found,
        "bands_chart": json.dumps(figures.bands_chart(found)),
        "bands_options": json.dumps(figures.BANDS_OPTIONS),
        "left_out": _left_out(run),
        "notes": _general_notes(run),
        **_break_even(comparing.points(run.rows.all()), run),
    }


def _break_even(points: list[Point], run: Comparison) -> dict[str, Any]:
    if not points:
        return {}
    currency = run.currency
    return {
        "break_even": break_even_sentences(points, run.name),
        "break_even_rows": [
            (times(point.factor), _amounts(point.old_minor, point.new_minor, currency))
            for point in points
        ],
        "break_even_chart": json.dumps(figures.break_even_chart(points, currency, run.name)),
        "break_even_options": json.dumps(figures.break_even_options(currency)),
    }


def _table(request: HttpRequest, run: Comparison) -> dict[str, Any]:
    """One page of the organizations, in the order asked for."""
    asked = request.GET.get("sort", "difference")
    name = asked.removeprefix("-")
    columns = {name: column for name, _, column in COLUMNS}
    if name not in columns:
        name = asked = "difference"
    column = F(columns[name])
    order = (column.desc if asked[0] == "-" else column.asc)(nulls_last=True)
    page = Paginator(_compared(run).order_by(order, "pk"), ROWS_PER_PAGE)
    shown = page.get_page(request.GET.get("page"))
    return {
        "page": shown,
        "rows": _rows(shown.object_list, run),
        "sort": asked,
        "columns": [(key, label, _way(key, asked), _next(key, asked)) for key, label, _ in COLUMNS],
    }


def _way(name: str, asked: str) -> str:
    """How a column is sorted now, as aria-sort says it."""
    return {name: "ascending", f"-{name}": "descending"}.get(asked, "none")


def _next(name: str, asked: str) -> str:
    """What its heading asks for: the other way, if it is sorted already."""
    return f"-{name}" if asked == name else name


def _compared(run: Comparison) -> QuerySet[Any]:
    exact = DecimalField(max_digits=40, decimal_places=6)
    return (
        run.rows.filter(verdict__in=COMPARED)
        .select_related("organization")
        .annotate(
            difference=F("new_minor") - F("old_minor"),
            ratio=Cast("new_minor", exact)
            / NullIf(Cast("old_minor", exact), Value(0, output_field=exact)),
        )
    )


def _rows(rows: Any, run: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "organization": row.organization,
            "periods": row.periods,
            "verdict": row.verdict,
            "notes": _notes(row),
            **_amounts(row.old_minor, row.new_minor, run.currency),
        }
        for row in rows
    ]


def _amounts(old_minor: int, new_minor: int, currency: str) -> dict[str, Any]:
    difference = new_minor - old_minor
    return {
        "old": money(old_minor, currency),
        "new": money(new_minor, currency),
        "difference": ("+" if difference > 0 else "") + money(difference, currency),
        "percent": figures.percent(old_minor, new_minor),
        "sign": (difference > 0) - (difference < 0),
    }


def _notes(row: ComparedOrganization) -> list[str]:
    return [NOTES[Note(name)] for name in row.notes]


def _general_notes(run: Comparison) -> list[tuple[str, int]]:
    """Each note that some organization has, and how many have it."""
    found = [
        (text, run.rows.filter(notes__contains=[note]).count()) for note, text in NOTES.items()
    ]
    return [(text, count) for text, count in found if count]


def _left_out(run: Comparison) -> list[tuple[str, int, list[Organization]]]:
    """Who is not compared, by the reason: how many, and the first of them."""
    reasons = []
    for verdict in LEFT_OUT:
        rows = run.rows.filter(verdict=verdict).select_related("organization")
        if count := rows.count():
            first = [row.organization for row in rows.order_by("organization__slug")[:LEFT_OUT_MAX]]
            reasons.append((verdict.label, count, first))
    return reasons


def _item(item: side_by_side.Item, currency: str) -> dict[str, Any]:
    amounts = _amounts(item.old.minor, item.new.minor, currency)
    sides = [("Now", item.old.lines), ("Under the other tariff", item.new.lines)]
    return {"item": item, "sides": sides, **amounts}


def _lines(run: Comparison) -> Iterator[list[spreadsheet.Cell]]:
    yield list(FILE_COLUMNS)
    rows = run.rows.select_related("organization").order_by("organization__slug")
    for row in rows.iterator(chunk_size=500):
        amounts = (row.old_minor, row.new_minor, row.new_minor - row.old_minor)
        shown = row.verdict in COMPARED
        yield [
            row.organization.slug,
            row.verdict,
            row.periods,
            *(from_minor(minor, run.currency) if shown else None for minor in amounts),
            run.currency,
            row.unpriced,
            row.newly_priced,
            " ".join(row.notes),
        ]
