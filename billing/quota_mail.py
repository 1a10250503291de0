"""The mail that says a quota's threshold is crossed."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from accounts.models import Member, Organization, Role
from billing.models import QuotaAlert
from billing.rating.period import calendar_month

TOLD = (Role.OWNER, Role.ADMIN, Role.BILLING)


def send(alert: QuotaAlert) -> bool:
    """Mail it to those who may act on it. False: the organization has nobody to tell yet."""
    organization = alert.quota.organization
    recipients = _recipients(organization)
    if not recipients:
        return False
    context = _context(alert, organization)
    message = EmailMultiAlternatives(
        subject=" ".join(render_to_string("mail/quota_alert.subject.txt", context).split()),
        body=render_to_string("mail/quota_alert.txt", context),
        to=recipients,
    )
    message.attach_alternative(render_to_string("mail/quota_alert.html", context), "text/html")
    message.send()
    return True


def _recipients(organization: Organization) -> list[str]:
    told = Member.objects.filter(organization=organization, role__in=TOLD, user__is_active=True)
    return sorted(told.values_list("user__email", flat=True))


def _context(alert: QuotaAlert, organization: Organization) -> dict[str, object]:
    zone = ZoneInfo(organization.zone)
    month = calendar_month(zone, alert.month_start)
    return {
        "alert": alert,
        "organization": organization,
        "project": alert.quota.project,
        "month": f"{month.start.astimezone(zone):%B %Y}",
        "last_day": (month.end - timedelta(minutes=15)).astimezone(zone).date().isoformat(),
        "left": max(0, alert.tokens_per_month - alert.tokens_used),
        "over": max(0, alert.tokens_used - alert.tokens_per_month),
        "covered": sorted(
            alert.quota.alerts.filter(
                month_start=alert.month_start,
                tokens_per_month=alert.tokens_per_month,
                covered_by=alert.percent,
            ).values_list("percent", flat=True)
        ),
        "address": f"{settings.PUBLIC_URL.rstrip('/')}/o/{organization.slug}/usage/",
    }
