"""Serves the plain Django way as the door is served, with nothing between server and view."""

from __future__ import annotations

import os

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()
settings.ROOT_URLCONF = "bench.plain_view"
settings.MIDDLEWARE = []  # in its favour
application = WSGIHandler()
