"""The reading half of metering's API. The ingestion door is not a Django view."""

from django.urls import path

from metering import api, rejections_api

urlpatterns = [
    path("usage", api.Usage.as_view(), name="api_usage"),
    path("ingest/rejections", rejections_api.Rejections.as_view(), name="api_rejections"),
    path("ingest/rejections/replay", rejections_api.Replay.as_view(), name="api_replay"),
]
