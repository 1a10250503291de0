"""The customer's pages. Everything under /o/<slug>/ goes through portal.door."""

from django.urls import path

from portal import (
    calculator,
    choosing,
    error_pages,
    invitations,
    invoice_lines,
    invoices,
    keys,
    members,
    overview,
    projects,
    quotas,
    rejections,
    settings,
    tariff,
    usage,
)

app_name = "portal"
O = "o/<slug:slug>/"  # noqa: E741
urlpatterns = [
    path("", choosing.choose, name="choose"),
    path("new/", choosing.create, name="create"),
    path("errors/", error_pages.index, name="errors"),
    path("errors/<slug:code>/", error_pages.show, name="error"),
    path("invitations/<str:secret>/", invitations.answer, name="invitation"),
    path(O, overview.show, name="overview"),
    path(f"{O}usage/", usage.show, name="usage"),
    path(f"{O}usage.csv", usage.download, name="usage_csv"),
    path(f"{O}projects/", projects.show, name="projects"),
    path(f"{O}projects/new/", projects.create, name="project_create"),
    path(f"{O}projects/<slug:project_slug>/rename/", projects.rename, name="project_rename"),
    path(f"{O}projects/<slug:project_slug>/archive/", projects.archive, name="project_archive"),
    path(f"{O}keys/", keys.show, name="keys"),
    path(f"{O}keys/new/", keys.create, name="key_create"),
    path(f"{O}keys/<slug:prefix>/revoke/", keys.revoke, name="key_revoke"),
    path(f"{O}keys/<slug:prefix>/limits/", keys.limit, name="key_limit"),
    path(f"{O}rejections/", rejections.show, name="rejections"),
    path(f"{O}rejections/replay/", rejections.replay, name="rejections_replay"),
    path(f"{O}members/", members.show, name="members"),
    path(f"{O}members/invite/", members.invite, name="member_invite"),
    path(f"{O}members/<int:pk>/role/", members.change_role, name="member_role"),
    path(f"{O}members/<int:pk>/remove/", members.remove, name="member_remove"),
    path(f"{O}members/invitations/<int:pk>/withdraw/", members.withdraw, name="withdraw"),
    path(f"{O}invoices/", invoices.index, name="invoices"),
    path(f"{O}invoices/<str:number>/", invoices.show, name="invoice"),
    path(f"{O}invoices/<str:number>/lines.csv", invoices.download, name="invoice_csv"),
    path(f"{O}invoices/<str:number>/lines/<int:position>/", invoice_lines.show, name="line"),
    path(f"{O}tariff/", tariff.show, name="tariff"),
    path(f"{O}tariff/cost/", calculator.show, name="cost"),
    path(f"{O}settings/", settings.show, name="settings"),
    path(f"{O}settings/billing/", settings.save_billing, name="billing_save"),
    path(f"{O}quotas/set/", quotas.save, name="quota_set"),
    path(f"{O}quotas/<int:pk>/remove/", quotas.remove, name="quota_remove"),
]
