"""Moments and periods in templates, in the organization's zone."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from django import template
from django.template import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString

from portal import figures
from portal.language import locale_of

register = template.Library()


def _zone(context: Context, zone: str) -> ZoneInfo:
    if zone:
        return ZoneInfo(zone)
    entry = context.get("entry")
    return entry.zone if entry else ZoneInfo("UTC")


@register.simple_tag(takes_context=True)
def moment(context: Context, value: datetime | None, zone: str = "") -> SafeString | str:
    """Day and clock; the page or the table says the zone, the tooltip the offset."""
    if value is None:
        return "never"
    local_zone = _zone(context, zone)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        value.isoformat(),
        f"{local_zone.key}, {figures.offset(value, local_zone)}",
        figures.moment(value, local_zone, locale_of(context.get("request"))),
    )


@register.simple_tag(takes_context=True)
def local_day(context: Context, value: datetime | None, zone: str = "") -> SafeString | str:
    """The local calendar day a moment lies in."""
    if value is None:
        return "never"
    local = value.astimezone(_zone(context, zone)).date()
    text = figures.day(local, locale_of(context.get("request")))
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), text)


@register.simple_tag(takes_context=True)
def plain_day(context: Context, value: date) -> str:
    """A calendar day."""
    return figures.day(value, locale_of(context.get("request")))


@register.simple_tag(takes_context=True)
def weekday(context: Context, value: date) -> str:
    """Mon"""
    return figures.weekday(value, locale_of(context.get("request")))


@register.simple_tag(takes_context=True)
def clock(context: Context, value: datetime, zone: str = "") -> str:
    """The local time of day."""
    return figures.clock(value.astimezone(_zone(context, zone)))


@register.simple_tag(takes_context=True)
def period(context: Context, start: datetime, end: datetime, zone: str = "") -> str:
    """First to last day, or with the clock where the ends are not midnights."""
    return figures.period(start, end, _zone(context, zone), locale_of(context.get("request")))
