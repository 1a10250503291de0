"""What billing answers over the API."""

from django.urls import path

from billing import events_api, quoting_api

urlpatterns = [
    path("quote", quoting_api.Quote.as_view(), name="api_quote"),
    path("simulate", quoting_api.Simulate.as_view(), name="api_simulate"),
    path("usage/events", events_api.Events.as_view(), name="api_events"),
    path(
        "usage/events/<int:batch_id>-<int:ordinal>",
        events_api.OneEvent.as_view(),
        name="api_event",
    ),
]
