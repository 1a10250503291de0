"""The usage explorer: any window, cut and split as one likes, as a chart, a table and a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from babel import Locale
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET

from accounts.models import Organization
from accounts.permissions import Action
from billing import spreadsheet
from metering import readings
from portal import figures, series, window
from portal.door import Entry, member_page
from portal.language import locale_of
from portal.usage_form import CHOICES_MAX, DEFAULTS, GROUP_NAMES, GROUPS, UsageForm

Name = Callable[[series.Group], str]


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """The whole page; or, where htmx asks, only what the question changes."""
    form = UsageForm(request.GET.dict(), entry, timezone.now())
    names = project_names(entry.organization)
    context: dict[str, object] = {"form": form}
    if form.is_valid():
        context |= _result(form, entry, names, locale_of(request))
    part = bool(request.htmx) and not request.htmx.history_restore_request  # type: ignore[attr-defined]
    if not part:
        context["filters"] = _filters(form, entry, names)
    template = "portal/usage_result.html" if part else "portal/usage.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request", "HX-History-Restore-Request"])
    return response


@require_GET
@member_page(Action.SEE_USAGE)
def download(request: HttpRequest, entry: Entry) -> HttpResponseBase:
    """The same answer as a CSV file, row by row."""
    form = UsageForm(request.GET.dict(), entry, timezone.now())
    if not form.is_valid():
        return render(request, "portal/usage.html", {"form": form}, status=422)
    query = form.query()
    rows = readings.series(entry.organization.pk, query)
    first, last = (moment.astimezone(entry.zone).date() for moment in (query.start, query.end))
    name = f"usage-{entry.organization.slug}-{first}-{last}.csv"
    return spreadsheet.download(
        name, _lines(rows, query, entry.zone, project_names(entry.organization))
    )


def project_names(organization: Organization) -> dict[str, str]:
    """What people call the projects, by what the readings call them."""
    return dict(organization.projects.order_by("name").values_list("slug", "name"))


def namer(group_by: tuple[str, ...], projects: dict[str, str]) -> Name:
    """How to call a group on a page: every part by its name."""

    def part(dimension: str, value: str) -> str:
        if not value:
            return "not said"
        match dimension:
            case "project":
                return projects.get(value, value)
            case "register":
                return readings.register_label(value)
        return value

    def name(group: series.Group) -> str:
        parts = zip(group_by, group, strict=True)
        return ", ".join(part(dimension, value) for dimension, value in parts)

    return name


def saying(step: str, zone: ZoneInfo, locale: Locale) -> Callable[[datetime], str]:
    """How to call a step on a chart's axis."""

    def say(moment: datetime) -> str:
        local = moment.astimezone(zone)
        if step in ("hour", "quarter_hour"):
            return f"{figures.short_day(local.date(), locale)} {figures.clock(local)}"
        return figures.short_day(local.date(), locale)

    return say


def _result(
    form: UsageForm, entry: Entry, projects: dict[str, str], locale: Locale
) -> dict[str, object]:
    query = form.query()
    rows, others = _tokens_and_others(readings.series(entry.organization.pk, query), query)
    summary = series.summarise(
        rows,
        window.steps(query.start, query.end, query.step, entry.zone),
        name=namer(query.group_by, projects),
        say=saying(query.step, entry.zone, locale),
    )
    asked = {name: value for name, value in form.cleaned_data.items() if value}
    unit = _unit(query)
    return {
        "summary": summary,
        "chart": summary.chart(unit),
        "unit": unit,
        "query": query,
        "columns": " and ".join(GROUP_NAMES[name].lower() for name in query.group_by),
        "step": dict(window.STEPS)[query.step],
        "address": urlencode(asked),
        "counts_requests": "register" not in query.group_by,
        "others": _others(others, query),
    }


def _tokens_and_others(
    rows: list[readings.Row], query: readings.Query
) -> tuple[list[readings.Row], list[readings.Row]]:
    """Split by register, rows have units of their own: only tokens can be added up."""
    if "register" not in query.group_by:
        return rows, []
    place = query.group_by.index("register")
    tokens = [row for row in rows if readings.is_token(row.group[place])]
    return tokens, [row for row in rows if not readings.is_token(row.group[place])]


def _others(rows: list[readings.Row], query: readings.Query) -> list[tuple[str, int]]:
    """Requests, searches, images: each register with its own sum."""
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row.group[query.group_by.index("register")]] += row.quantity
    return [(readings.register_label(register), sums[register]) for register in sorted(sums)]


def _unit(query: readings.Query) -> str:
    only = query.filters.get("register", [""])[0]
    return (
        "tokens" if not only or readings.is_token(only) else readings.register_label(only).lower()
    )


Options = list[tuple[str, str]]


def _filters(
    form: UsageForm, entry: Entry, projects: dict[str, str]
) -> list[tuple[str, str, str, Options]]:
    """Per dimension: (field, label, chosen value, what to choose from)."""
    asked_window = form.cleaned_data if form.is_valid() else DEFAULTS
    chosen = form.chosen_window(asked_window)
    values = _values(entry.organization.pk, chosen) | {"project": list(projects)}
    found = []
    for field, label in GROUPS:
        name = namer((field,), projects)
        options = [(value, name((value,))) for value in values[field][:CHOICES_MAX]]
        asked = str(asked_window.get(field, ""))
        if asked and asked not in dict(options):
            options.append((asked, name((asked,))))
        if len(options) > 1 or asked:
            found.append((field, label, asked, options))
    return found


def _values(organization_id: int, chosen: window.Window) -> dict[str, list[str]]:
    """What the filters can be set to. The narrow dimensions come from one look at the readings."""
    narrow = ("model", "register", "region", "service_class")
    query = readings.Query(chosen.start, chosen.end, step="total", group_by=narrow)
    groups = [row.group for row in readings.series(organization_id, query)]
    values = {
        name: sorted({group[place] for group in groups} - {""}) for place, name in enumerate(narrow)
    }
    for wide in ("api_key", "agent"):
        values[wide] = readings.dimension_values(organization_id, chosen.start, chosen.end, wide)
    return values


def _lines(
    rows: list[readings.Row], query: readings.Query, zone: ZoneInfo, projects: dict[str, str]
) -> Iterator[list[spreadsheet.Cell]]:
    timed = query.step != "total"
    project = query.group_by.index("project") if "project" in query.group_by else None
    by_register = "register" in query.group_by
    yield [
        *(["starts_at"] if timed else []),
        *query.group_by,
        *(["project_name"] if project is not None else []),
        *(["quantity"] if by_register else ["tokens", "requests"]),
    ]
    for row in rows:
        line: list[spreadsheet.Cell] = []
        if timed and row.starts_at is not None:
            line.append(row.starts_at.astimezone(zone).isoformat())
        line += row.group
        if project is not None:
            line.append(projects.get(row.group[project], ""))
        yield [*line, row.quantity] if by_register else [*line, row.quantity, row.requests]
