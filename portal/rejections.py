"""What senders got wrong: counted, shown as it came, sent again once it is mended."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Action
from accounts.problems import KINDS
from accounts.refusals import Refusal
from metering import rejections
from metering.rejections import Which
from portal.door import Entry, member_page

SHOWN = 50


@require_GET
@member_page(Action.SEE_USAGE)
def show(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Counts for each code, and the newest events."""
    code = _code(request.GET.get("code", ""))
    before = request.GET.get("before", "")
    cursor = int(before) if before.isascii() and before.isdigit() and len(before) < 18 else None
    rows = rejections.find(entry.organization.pk, Which(code=code, before=cursor), limit=SHOWN + 1)
    counts = rejections.counts(entry.organization.pk, Which())
    context = {
        "code": code,
        "kinds": [(name, KINDS[name], count) for name, count in counts.items() if name in KINDS],
        "rows": [(row, KINDS.get(row.code)) for row in rows[:SHOWN]],
        "older": rows[SHOWN - 1].id if len(rows) > SHOWN else None,
        "kept_days": rejections.KEPT_FOR.days,
        "left_out": rejections.today(entry.organization.pk, timezone.now()).left_out,
    }
    return render(request, "portal/rejections.html", context)


@require_POST
@member_page(Action.MANAGE_KEYS)
def replay(request: HttpRequest, entry: Entry) -> HttpResponse:
    """Send the events of one code, or one event, again."""
    code, one = _code(request.POST.get("code", "")), request.POST.get("id", "")
    ids = [int(one)] if one.isascii() and one.isdigit() and len(one) < 18 else None
    if code is None and ids is None:
        messages.warning(request, "Nothing was chosen, so nothing was sent again.")
    else:
        try:
            done = rejections.replay(
                entry.organization.pk, Which(code=code, ids=ids), now=timezone.now()
            )
        except Refusal as refusal:
            messages.warning(request, refusal.sentence)
        else:
            _tell(request, done)
    return redirect("portal:rejections", entry.organization.slug)


def _code(text: str) -> str | None:
    return text if text in KINDS else None


def _tell(request: HttpRequest, done: rejections.Replayed) -> None:
    if done.taken:
        messages.success(request, f"Sent again and counted: {done.taken}.")
    if done.rejected:
        messages.warning(request, f"Sent again and still not taken: {done.rejected}.")
    if done.left:
        messages.info(request, f"Not sent again, because something was left out: {done.left}.")
    if not (done.taken or done.rejected or done.left):
        messages.info(request, "There was nothing to send again.")
