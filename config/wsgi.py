"""One address for both doors: the ingestion door is asked first and never touches Django.

In production the proxy sends `/api/v1/events` and `/v1/traces` to the ingestion processes; here,
and on a machine with one port, the same application answers them in front of Django.
"""

import os
from collections.abc import Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.core.wsgi import get_wsgi_application

django_application = get_wsgi_application()

from metering.ingest.app import application as ingest_application  # noqa: E402 - settings first
from metering.ingest.door import PATHS  # noqa: E402


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Send a request to the door it names."""
    if environ["PATH_INFO"] in PATHS:
        return ingest_application(environ, start_response)
    return django_application(environ, start_response)
