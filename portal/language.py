"""Which conventions a reader's numbers and dates follow.

The page's language decides; within it the browser chooses the region. A German browser that reads
an English page gets English numbers, for there "1.234" and "1,234" must not stand side by side.
"""

from __future__ import annotations

from functools import lru_cache

from babel import Locale, UnknownLocaleError
from django.http import HttpRequest
from django.utils.translation import get_language
from django.utils.translation.trans_real import parse_accept_lang_header

FALLBACK = Locale("en")
HEADER_LENGTH_MAX = 500


def locale_of(request: HttpRequest | None) -> Locale:
    """The page's language, in the region the browser prefers among those that speak it."""
    header = request.headers.get("Accept-Language", "") if request else ""
    return _preferred(get_language() or "", header[:HEADER_LENGTH_MAX].lower())


@lru_cache(maxsize=1_000)  # a page asks once for each number on it
def _preferred(language: str, header: str) -> Locale:
    page = _locale(language) or FALLBACK
    for name, _ in parse_accept_lang_header(header):
        asked = _locale(name)
        if asked is not None and asked.language == page.language:
            return asked
    return page


def _locale(name: str) -> Locale | None:
    try:
        return Locale.parse(name, sep="-") if name else None
    except (ValueError, UnknownLocaleError):
        return None
