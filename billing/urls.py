"""What billing answers over the API."""

from django.urls import path

from billing import api

urlpatterns = [
    path("quote", api.Quote.as_view(), name="api_quote"),
    path("simulate", api.Simulate.as_view(), name="api_simulate"),
]
