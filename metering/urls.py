"""The reading half of metering's API. The ingestion door is not a Django view."""

from django.urls import path

from metering import api, backfills_api, rejections_api

urlpatterns = [
    path("usage", api.Usage.as_view(), name="api_usage"),
    path("ingest/rejections", rejections_api.Rejections.as_view(), name="api_rejections"),
    path("ingest/rejections/replay", rejections_api.Replay.as_view(), name="api_replay"),
    path("ingest/backfills", backfills_api.Backfills.as_view(), name="api_backfills"),
    path("ingest/backfills/<int:number>", backfills_api.OneBackfill.as_view(), name="api_backfill"),
    path(
        "ingest/backfills/<int:number>/close",
        backfills_api.CloseBackfill.as_view(),
        name="api_backfill_close",
    ),
    path(
        "ingest/backfills/<int:number>/revert",
        backfills_api.RevertBackfill.as_view(),
        name="api_backfill_revert",
    ),
]
