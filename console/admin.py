"""Where Django's admin looks for pages: importing them registers them."""

from django.contrib import admin

from console import (
    costs,
    invoices,
    organizations,
    people,
    proposals,
    quotas,
    subscriptions,
    tariffs,
)

__all__ = [
    "costs",
    "invoices",
    "organizations",
    "people",
    "proposals",
    "quotas",
    "subscriptions",
    "tariffs",
]

admin.site.index_template = "console/index.html"
admin.site.enable_nav_sidebar = True
