"""What billing answers over the API."""

from django.urls import path

from billing import events_api

urlpatterns = [
    path("usage/events", events_api.Events.as_view(), name="api_events"),
    path(
        "usage/events/<int:batch_id>-<int:ordinal>",
        events_api.OneEvent.as_view(),
        name="api_event",
    ),
]
