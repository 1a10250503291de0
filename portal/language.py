"""Which conventions a reader's numbers and dates follow: those the browser asks for."""

from __future__ import annotations

from babel import Locale, UnknownLocaleError
from django.http import HttpRequest
from django.utils.translation.trans_real import parse_accept_lang_header

FALLBACK = Locale("en")
HEADER_LENGTH_MAX = 500


def locale_of(request: HttpRequest | None) -> Locale:
    """The first locale the request asks for that we know; English otherwise."""
    if request is None:
        return FALLBACK
    header = request.headers.get("Accept-Language", "")[:HEADER_LENGTH_MAX].lower()
    for name, _ in parse_accept_lang_header(header):
        try:
            return Locale.parse(name, sep="-")
        except (ValueError, UnknownLocaleError):
            continue
    return FALLBACK
