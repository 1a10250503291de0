"""Quotas: how many tokens a month an organization or a project means to use, and who is told.

A quota warns; it does not stop requests. A threshold is claimed as a row before its mail is sent
and marked after: a crash in between is found again, so a mail may come twice but never not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import F, Q

from accounts import audit
from accounts.models import Organization, Project, User
from billing import quota_mail
from billing.models import Quota, QuotaAlert
from billing.rating.period import Period, calendar_month
from metering import readings

THRESHOLDS = (50, 80, 100)
CLAIM_LASTS = timedelta(minutes=1)  # a mail that is not sent by then is taken on again
TOKENS_PER_MONTH_MAX = 10**18


class QuotaRefused(ValueError):
    """The quota stays as it is; the message says why."""


@dataclass(frozen=True, slots=True)
class QuotaStanding:
    """How far a quota is used up in the current month. `left` is 0 when it is overrun."""

    quota: Quota
    month: Period
    used: int
    left: int
    percent: int


def standing(organization: Organization, now: datetime) -> list[QuotaStanding]:
    """Every quota of an organization, its own first, then its projects' by name."""
    quotas = organization.quotas.select_related("organization", "project")
    own_first = list(quotas.order_by(F("project__slug").asc(nulls_first=True)))
    if not own_first:
        return []
    month = calendar_month(ZoneInfo(organization.zone), now)
    by_project = readings.tokens_by_project(organization.pk, month.start, month.end)
    whole = sum(by_project.values())
    return [
        _stands(quota, month, by_project.get(quota.project_id, 0) if quota.project_id else whole)
        for quota in own_first
    ]


@transaction.atomic
def set_quota(
    organization: Organization,
    tokens_per_month: int,
    *,
    project: Project | None = None,
    actor: User | None,
) -> Quota:
    """Set or change a limit. Each limit has its own alerts: a raised one warns anew."""
    if not 0 < tokens_per_month <= TOKENS_PER_MONTH_MAX:
        raise QuotaRefused("A quota is a whole number of tokens above zero; remove it instead.")
    if project is not None and project.organization_id != organization.pk:
        raise QuotaRefused("The project belongs to another organization.")
    before = organization.quotas.filter(project=project).first()
    quota, _ = Quota.objects.update_or_create(
        organization=organization,
        project=project,
        defaults={"tokens_per_month": tokens_per_month},
    )
    audit.record(
        "quota.set",
        subject=project.slug if project else organization.slug,
        organization=organization,
        actor=actor,
        detail={"before": before.tokens_per_month if before else None, "after": tokens_per_month},
    )
    return quota


@transaction.atomic
def remove_quota(quota: Quota, *, actor: User | None) -> bool:
    """Remove a limit and its alerts. False: it was removed already."""
    found = Quota.objects.select_for_update(of=("self",)).filter(pk=quota.pk)
    current = found.select_related("organization", "project").first()
    if current is None:
        return False
    current.delete()
    audit.record(
        "quota.removed",
        subject=current.project.slug if current.project else current.organization.slug,
        organization=current.organization,
        actor=actor,
        detail={"before": current.tokens_per_month},
    )
    return True


def quota_ids() -> list[int]:
    """Every quota there is to watch."""
    return list(Quota.objects.order_by("pk").values_list("pk", flat=True))


def watch(now: datetime) -> None:
    """Watch every quota once."""
    for quota_id in quota_ids():
        watch_quota(quota_id, now)


def watch_quota(quota_id: int, now: datetime) -> None:
    """Record the thresholds crossed since the last look, and mail what waits to be mailed."""
    quota = Quota.objects.select_related("organization", "project").filter(pk=quota_id).first()
    if quota is None:
        return
    alert = _claim(_standing(quota, now), now)
    if alert is not None:
        _mail(alert, now)
    for found in _left_behind(quota, now):
        _mail(found, now)


def _standing(quota: Quota, now: datetime) -> QuotaStanding:
    month = calendar_month(ZoneInfo(quota.organization.zone), now)
    used = readings.tokens_in(
        quota.organization_id, month.start, month.end, project_id=quota.project_id
    )
    return _stands(quota, month, used)


def _stands(quota: Quota, month: Period, used: int) -> QuotaStanding:
    return QuotaStanding(
        quota=quota,
        month=month,
        used=used,
        left=max(0, quota.tokens_per_month - used),
        percent=used * 100 // quota.tokens_per_month,
    )


@transaction.atomic
def _claim(now_standing: QuotaStanding, now: datetime) -> QuotaAlert | None:
    """Record what is newly crossed. Returns the one to mail, if this caller recorded it."""
    quota = now_standing.quota
    crossed = [percent for percent in THRESHOLDS if percent <= now_standing.percent]
    # The quota's row lines up two watchers; who comes second finds everything recorded.
    if not crossed or not Quota.objects.select_for_update(no_key=True).filter(pk=quota.pk).first():
        return None
    recorded = quota.alerts.filter(
        month_start=now_standing.month.start, tokens_per_month=quota.tokens_per_month
    ).values_list("percent", flat=True)
    new = sorted(set(crossed) - set(recorded))
    alerts = [_alert(now_standing, percent, new[-1], now) for percent in new]
    QuotaAlert.objects.bulk_create(alerts)
    return alerts[-1] if alerts else None


def _alert(now_standing: QuotaStanding, percent: int, highest: int, now: datetime) -> QuotaAlert:
    return QuotaAlert(
        quota=now_standing.quota,
        month_start=now_standing.month.start,
        tokens_per_month=now_standing.quota.tokens_per_month,
        percent=percent,
        tokens_used=now_standing.used,
        covered_by=None if percent == highest else highest,
        recorded_at=now,
        claimed_at=now,
    )


def _left_behind(quota: Quota, now: datetime) -> Sequence[QuotaAlert]:
    """Alerts whose sender took them on and did not finish, each claimed anew by us alone."""
    waiting = quota.alerts.filter(
        Q(claimed_at__lt=now - CLAIM_LASTS), mailed_at=None, covered_by=None
    ).select_related("quota__organization", "quota__project")
    return [
        alert
        for alert in waiting
        if quota.alerts.filter(pk=alert.pk, mailed_at=None, claimed_at=alert.claimed_at).update(
            claimed_at=now
        )
    ]


def _mail(alert: QuotaAlert, now: datetime) -> None:
    if quota_mail.send(alert):
        QuotaAlert.objects.filter(pk=alert.pk).update(mailed_at=now)
