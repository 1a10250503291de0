"""Re-rating: what billed periods are off by, shown, approved, and issued as notes."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.models import Organization, User
from billing import rerated_sums, rerating, spreadsheet, tasks
from billing.models import ReratingItem, ReratingJob, Tariff
from billing.rerated_sums import Sums
from console.entrance import actor_with, may_with, staff_only
from console.publishing import APPROVE, PUBLISH
from console.staff import exact, money
from console.steps import REFUSALS, ReasonForm, ask, field_and_sentence

JOBS_MAX = 100
SHOWN_MAX = 25
State = ReratingJob.State
Item = ReratingItem.State


def _day() -> UnfoldAdminTextInputWidget:
    return UnfoldAdminTextInputWidget({"type": "date"})


class StartForm(forms.Form):
    """Which invoices, and why."""

    first = forms.DateField(
        label="Periods that begin from",
        widget=_day(),
        help_text="A local day of each organization.",
    )
    last = forms.DateField(label="Until", widget=_day(), help_text="This day is not included.")
    tariff = forms.ModelChoiceField(
        Tariff.objects.order_by("code"),
        required=False,
        empty_label="Any",
        widget=UnfoldAdminSelectWidget,
        help_text="Only what was billed by it.",
    )
    organizations = forms.CharField(
        required=False,
        max_length=4_000,
        widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}),
        help_text="Slugs, with spaces between them; empty: all.",
    )
    reason = ReasonForm.base_fields["reason"]

    def clean_organizations(self) -> list[Organization]:
        """The organizations of these slugs."""
        slugs = set(self.cleaned_data["organizations"].replace(",", " ").split())
        found = list(Organization.objects.filter(slug__in=slugs))
        missing = sorted(slugs - {one.slug for one in found})
        if missing:
            raise forms.ValidationError(f"There is no organization {', '.join(missing)}.")
        return found


@require_GET
@staff_only
def index(request: HttpRequest) -> HttpResponse:
    """Every re-rating, newest first."""
    jobs = ReratingJob.objects.select_related("tariff", "started_by", "decided_by")
    shown = list(jobs[:JOBS_MAX])
    context = {
        **admin.site.each_context(request),
        "title": "Re-rating",
        "rows": [(job, _scope(job), _sums(job)) for job in shown],
        "jobs_max": JOBS_MAX,
        "more": len(shown) == JOBS_MAX,
        "may_start": may_with(request, PUBLISH),
    }
    return render(request, "console/reratings.html", context)


@require_http_methods(["GET", "POST"])
@staff_only
def start(request: HttpRequest) -> HttpResponse:
    """Ask which invoices; comparing them changes nothing."""
    actor = actor_with(request, PUBLISH)
    posted = request.method == "POST"
    form = StartForm(request.POST if posted else None)
    if posted and form.is_valid():
        try:
            job = _start(form.cleaned_data, actor, timezone.now())
        except REFUSALS as refusal:
            form.add_error(None, field_and_sentence(refusal)[1])
        else:
            return redirect("console:rerating", job.pk)
    context = {
        **admin.site.each_context(request),
        "title": "Start a re-rating",
        "explanation": "The invoices of these periods are compared with what they would be by the "
        "readings and prices of now. Nothing is issued before somebody has approved what differs.",
        "button": "Compare",
        "back": reverse("console:reratings"),
        "form": form,
    }
    return render(request, "console/step.html", context, status=422 if form.errors else 200)


@require_GET
@staff_only
def show(request: HttpRequest, job_id: int) -> HttpResponse:
    """One re-rating: what it comes to, who gains, who pays, and what is to be done."""
    job = _get(job_id)
    progress = rerated_sums.progress(job)
    left = progress[Item.WAITING if job.state == State.COMPARING else Item.DIFFERS]
    context = {
        **admin.site.each_context(request),
        "title": str(job),
        "job": job,
        "scope": _scope(job),
        "sums": _sums(job),
        "progress": progress,
        "total": sum(progress.values()),
        "left": left,
        "done": sum(progress.values()) - left,
        "works": job.state in (State.COMPARING, State.ISSUING),
        "winners": _rows(rerated_sums.winners(job)),
        "losers": _rows(rerated_sums.losers(job)),
        "failed": rerated_sums.failed(job)[:SHOWN_MAX],
        "shown_max": SHOWN_MAX,
        "waits": job.state == State.COMPARED,
        "may_approve": may_with(request, APPROVE) and _is_for(request, job),
        "may_decide": may_with(request, APPROVE),
        "may_withdraw": may_with(request, PUBLISH) and job.started_by_id == request.user.pk,
    }
    return render(request, "console/rerating.html", context)


@require_GET
@staff_only
def item(request: HttpRequest, job_id: int, item_id: int) -> HttpResponse:
    """One invoice of a re-rating, line by line."""
    rows = ReratingItem.objects.select_related("job", "organization", "invoice", "note")
    found = get_object_or_404(rows, pk=item_id, job=job_id)
    context = {
        **admin.site.each_context(request),
        "title": f"{found.invoice} in {found.job}",
        "item": found,
        "amounts": _written(
            found.currency, found.before_minor, found.difference_minor, found.after_minor
        ),
        "lines": [_line(line, found.currency) for line in found.lines],
    }
    return render(request, "console/rerated.html", context)


@require_GET
@staff_only
def download(request: HttpRequest, job_id: int) -> HttpResponseBase:
    """Every invoice of a re-rating, as CSV."""
    return spreadsheet.download(f"re-rating-{job_id}.csv", rerated_sums.rows(_get(job_id)))


@require_http_methods(["GET", "POST"])
@staff_only
def approve(request: HttpRequest, job_id: int) -> HttpResponse:
    """Have the notes issued, exactly as shown."""
    job = _get(job_id)

    class ApproveForm(forms.Form):
        comment = forms.CharField(required=False, max_length=500, widget=UnfoldAdminTextInputWidget)
        digest = forms.CharField(initial=job.digest, widget=forms.HiddenInput)

    def do(values: dict[str, Any], actor: User, now: datetime) -> str:
        rerating.approve(
            job.pk, digest=values["digest"], comment=values["comment"], actor=actor, now=now
        )
        _ring(job)
        return "Approved. The notes are being issued."

    return _ask(
        request, job, "Approve", f"{_moved(job)} Issued is exactly what was shown (digest "
        f"{job.digest[:12]}); what changes meanwhile is shown again.",
        "Approve and issue", do, APPROVE, ApproveForm,
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
@staff_only
def refuse(request: HttpRequest, job_id: int) -> HttpResponse:
    """Issue nothing more of it."""
    job = _get(job_id)

    def do(values: dict[str, Any], actor: User, now: datetime) -> str:
        rerating.refuse(job.pk, comment=values["reason"], actor=actor, now=now)
        return f"{job} is refused."

    return _ask(
        request, job, "Refuse", "Nothing is issued.", "Refuse it", do, APPROVE, ReasonForm
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
@staff_only
def withdraw(request: HttpRequest, job_id: int) -> HttpResponse:
    """Take one's own back."""
    job = _get(job_id)

    def do(values: dict[str, Any], actor: User, now: datetime) -> str:
        rerating.withdraw(job.pk, actor=actor, now=now)
        return f"{job} is withdrawn."

    return _ask(
        request, job, "Withdraw", "Nothing is issued.", "Withdraw it", do, PUBLISH, forms.Form
    )  # fmt: skip


def _start(values: dict[str, Any], actor: User, now: datetime) -> ReratingJob:
    with transaction.atomic():
        job = rerating.start(
            values["first"],
            values["last"],
            tariff=values["tariff"],
            organizations=values["organizations"],
            reason=values["reason"],
            actor=actor,
            now=now,
        )
        _ring(job)
    return job


def _ring(job: ReratingJob) -> None:
    """Call a worker once this is committed; if none hears it, the next beat finds the job."""
    transaction.on_commit(partial(tasks.work_rerating.delay, job.pk), robust=True)


def _ask(
    request: HttpRequest,
    job: ReratingJob,
    verb: str,
    explanation: str,
    button: str,
    do: Any,
    permission: str,
    form_class: type[forms.Form],
) -> HttpResponse:
    return ask(
        request,
        title=f"{verb} {job}",
        explanation=explanation,
        button=button,
        back=reverse("console:rerating", args=[job.pk]),
        do=do,
        form_class=form_class,
        actor=actor_with(request, permission),
    )


def _get(job_id: int) -> ReratingJob:
    jobs: Any = ReratingJob.objects.select_related("tariff", "started_by", "decided_by")
    job: ReratingJob = get_object_or_404(jobs, pk=job_id)
    return job


def _is_for(request: HttpRequest, job: ReratingJob) -> bool:
    return not job.takes_second_person or job.started_by_id != request.user.pk


def _scope(job: ReratingJob) -> str:
    """Which invoices, in words."""
    names = [one.slug for one in job.organizations.order_by("slug")[:4]]
    whose = ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")
    tariff = f" on {job.tariff.code}" if job.tariff else ""
    last = job.last - timedelta(days=1)
    return f"{whose or 'All organizations'}{tariff}, periods from {job.first} to {last}"


def _moved(job: ReratingJob) -> str:
    """What is to be issued, in words."""
    sums = rerated_sums.to_issue(job)
    back = [money(-one.credits_minor, one.currency) for one in sums if one.credits_minor]
    more = [money(one.debits_minor, one.currency) for one in sums if one.debits_minor]
    said = [("Given back", back), ("Charged", more)]
    return " ".join(f"{what}: {', '.join(amounts)}." for what, amounts in said if amounts)


def _sums(job: ReratingJob) -> list[tuple[Sums, list[str]]]:
    """Each currency with what was billed, given back, charged, and what it comes to then."""
    return [
        (one, _written(one.currency, one.before_minor, one.credits_minor, one.debits_minor,
                       one.after_minor))
        for one in rerated_sums.of(job)
    ]  # fmt: skip


def _rows(items: QuerySet[ReratingItem]) -> list[tuple[ReratingItem, list[str]]]:
    return [
        (one, _written(one.currency, one.before_minor, one.difference_minor, one.after_minor))
        for one in items[:SHOWN_MAX]
    ]


def _written(currency: str, *minors: int) -> list[str]:
    return [money(minor, currency) for minor in minors]


def _line(line: dict[str, Any], currency: str) -> dict[str, Any]:
    price = line["unit_price"]
    shown = "several prices" if price is None else exact(Decimal(price), currency)
    return line | {"price": shown, "amount": money(line["amount_minor"], currency)}
