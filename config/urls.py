"""Where every door stands."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView

from config import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("api/v1/", include("metering.urls")),
    path("api/v1/", include("billing.urls")),
    path("api/v1/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("accounts/", include("allauth.urls")),
    path("console/", include("console.urls")),
    path("console/", admin.site.urls),
    path("", include("portal.urls")),
]
handler404 = "config.problems.not_found"
handler500 = "config.problems.server_error"
