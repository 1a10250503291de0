"""What every page of the portal knows: the entry, the sections, the organizations to go to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from accounts.permissions import Action

if TYPE_CHECKING:
    from portal.door import Entry


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of the navigation."""

    label: str
    url: str
    icon: str
    current: bool


# (label, url name, icon, what one must be allowed to do)
_SECTIONS = (
    ("Overview", "overview", "gauge", Action.SEE_USAGE),
    ("Usage", "usage", "bars", Action.SEE_USAGE),
    ("Events", "events", "dots", Action.SEE_USAGE),
    ("Invoices", "invoices", "paper", Action.SEE_MONEY),
    ("Tariff", "tariff", "tag", Action.SEE_MONEY),
    ("Projects", "projects", "folder", Action.SEE_USAGE),
    ("API keys", "keys", "key", Action.SEE_USAGE),
    ("Rejections", "rejections", "tray", Action.SEE_USAGE),
    ("Backfills", "backfills", "rewind", Action.SEE_USAGE),
    ("Members", "members", "people", Action.SEE_USAGE),
    ("Settings", "settings", "sliders", Action.SEE_USAGE),
)


def shell(request: HttpRequest) -> dict[str, object]:
    """Context of the portal's frame; costs nothing where there is no frame."""
    entry: Entry | None = getattr(request, "entry", None)
    if entry is None:
        return {}
    allowed = {action.value: entry.may(action) for action in Action}
    return {
        "entry": entry,
        "organization": entry.organization,
        "allowed": allowed,
        "sections": _sections(request, entry),
        "memberships": SimpleLazyObject(lambda: _memberships(entry)),
    }


def _sections(request: HttpRequest, entry: Entry) -> list[Section]:
    sections = []
    for label, name, icon, action in _SECTIONS:
        if entry.may(action):
            url = reverse(f"portal:{name}", args=[entry.organization.slug])
            here = request.path == url or (name != "overview" and request.path.startswith(url))
            sections.append(Section(label, url, icon, here))
    return sections


def _memberships(entry: Entry) -> list[object]:
    return list(
        entry.user.memberships.select_related("organization").order_by("organization__name")
    )
