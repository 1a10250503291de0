"""The reading half of metering's API. The ingestion door is not a Django view."""

from django.urls import path

from metering import api

urlpatterns = [
    path("usage", api.Usage.as_view(), name="api_usage"),
]
