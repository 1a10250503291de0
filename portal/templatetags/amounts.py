"""Money and tokens in templates, in the conventions of the reader."""

from __future__ import annotations

from decimal import Decimal

from django import template
from django.template import Context
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing.rating.money import to_minor
from portal import figures
from portal.language import locale_of

register = template.Library()


@register.simple_tag(takes_context=True)
def money(context: Context, minor: int | None, currency: str) -> str:
    """Whole minor units."""
    if minor is None:
        return "not known"
    return figures.money_minor(minor, currency, locale_of(context.get("request")))


@register.simple_tag(takes_context=True)
def rounded_money(context: Context, amount: Decimal, currency: str) -> str:
    """An exact amount, rounded by name to the minor unit."""
    return figures.money_minor(
        to_minor(amount, currency), currency, locale_of(context.get("request"))
    )


@register.simple_tag(takes_context=True)
def exact_money(context: Context, amount: Decimal, currency: str) -> str:
    """An exact amount, with every digit."""
    return figures.money_exact(amount, currency, locale_of(context.get("request")))


@register.simple_tag(takes_context=True)
def count(context: Context, number: int) -> str:
    """Every digit, with separators."""
    return figures.count(number, locale_of(context.get("request")))


@register.simple_tag(takes_context=True)
def compact(context: Context, number: int) -> SafeString:
    """The short form to read, every digit to hover and to hear."""
    locale = locale_of(context.get("request"))
    short, whole = figures.compact(number, locale), figures.count(number, locale)
    if short == whole:
        return format_html("{}", whole)
    return format_html('<data value="{}" title="{}">{}</data>', number, whole, short)


@register.simple_tag(takes_context=True)
def percent(context: Context, part: int) -> str:
    """A whole number of hundredths."""
    return figures.percent(part, locale_of(context.get("request")))


@register.simple_tag(takes_context=True)
def portion(context: Context, part: int, quantity: int) -> str:
    """A share in hundredths; of something small it says <1%."""
    return figures.portion(part, quantity, locale_of(context.get("request")))


@register.simple_tag(takes_context=True)
def meter_register(context: Context, minor: int, currency: str) -> SafeString:
    """An amount on the wheels of a meter; a screen reader hears the plain amount."""
    locale = locale_of(context.get("request"))
    wheels = format_html_join(
        "",
        '<span class="{}">{}</span>',
        ((kind, text) for text, kind in figures.wheels(minor, currency, locale)),
    )
    return format_html(
        '<span class="unseen">{}</span>'
        '<span class="meter-register" aria-hidden="true">{}{}<span class="unit">{}</span></span>',
        figures.money_minor(minor, currency, locale),
        format_html('<span class="{}">{}</span>', "sign", "-") if minor < 0 else "",
        wheels,
        currency,
    )
