"""What the console's theme is told: name, colours, navigation. Read by config.settings."""

from __future__ import annotations

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy


def _page(title: str, icon: str, name: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse_lazy(name)}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Kilotoken console",
    "SITE_HEADER": "Kilotoken",
    "SITE_SUBHEADER": "Console",
    "SITE_SYMBOL": "speed",
    "SITE_URL": "/",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "DASHBOARD_CALLBACK": "console.dashboard.callback",
    "STYLES": [lambda request: static("console/console.css")],
    "COLORS": {
        "primary": {
            "50": "oklch(97.8% .013 181)",
            "100": "oklch(94.5% .03 181)",
            "200": "oklch(89% .055 181)",
            "300": "oklch(82% .085 180)",
            "400": "oklch(74% .1 180)",
            "500": "oklch(62% .1 181)",
            "600": "oklch(46% .08 182)",
            "700": "oklch(41% .072 182)",
            "800": "oklch(36% .06 182)",
            "900": "oklch(31% .05 182)",
            "950": "oklch(22% .035 182)",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "items": [
                    _page("Dashboard", "speed", "admin:index"),
                    _page("Pipeline", "water", "console:pipeline"),
                    _page("Backfills", "history", "console:backfills"),
                    _page("Events", "search", "console:events"),
                ],
            },
            {
                "title": "Who",
                "items": [
                    _page("Organizations", "domain", "admin:accounts_organization_changelist"),
                    _page("API keys", "key", "admin:accounts_apikey_changelist"),
                    _page("People", "group", "admin:accounts_user_changelist"),
                ],
            },
            {
                "title": "What it costs",
                "items": [
                    _page("Tariffs", "sell", "admin:billing_tariff_changelist"),
                    _page("Versions", "history", "admin:billing_tariffversion_changelist"),
                    _page("Proposals", "approval", "admin:billing_priceproposal_changelist"),
                    _page("Subscriptions", "contract", "admin:billing_subscription_changelist"),
                    _page(
                        "Negotiated terms", "handshake", "admin:billing_negotiatedterms_changelist"
                    ),
                    _page("What if", "balance", "console:what_if"),
                    _page("Quotas", "data_thresholding", "admin:billing_quota_changelist"),
                ],
            },
            {
                "title": "What it costs us",
                "items": [
                    _page("Models", "category", "admin:billing_catalogmodel_changelist"),
                    _page("Costs", "payments", "admin:billing_providercost_changelist"),
                    _page("Costs proposed", "rule", "admin:billing_costproposal_changelist"),
                    _page("Imports", "upload", "admin:billing_costimport_changelist"),
                    _page("Margin", "trending_up", "console:margin"),
                    _page("Without a price", "money_off", "console:unpriced"),
                ],
            },
            {
                "title": "Billing",
                "items": [
                    _page("Invoices", "receipt_long", "admin:billing_invoice_changelist"),
                    _page("Periods to close", "event_available", "console:due"),
                    _page("Re-rating", "currency_exchange", "console:reratings"),
                ],
            },
            {
                "title": "Record",
                "items": [_page("Audit log", "fact_check", "admin:accounts_auditentry_changelist")],
            },
        ],
    },
}
