"""What the log must not hold."""

from __future__ import annotations

import logging

import pytest
from django.conf import settings
from django.test import Client
from django.utils.module_loading import import_string

from accounts import keys

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/{}", "/o/acme/{}/", "/api/v1/{}", "/invitations/{}/"])
def test_a_secret_in_an_address_is_not_logged(path: str, caplog: pytest.LogCaptureFixture) -> None:
    key = keys.make("pepper").text
    with caplog.at_level(logging.INFO):
        assert Client().get(path.format(key)).status_code == 404
    formatter = import_string(settings.LOGGING["formatters"]["line"]["class"])("%(message)s")
    lines = [formatter.format(record) for record in caplog.records]
    assert any("Not Found" in line for line in lines)
    assert key[17:30] not in "".join(lines)


def test_the_secret_of_an_invitation_is_not_logged() -> None:
    formatter = import_string(settings.LOGGING["formatters"]["line"]["class"])("%(message)s")
    record = logging.makeLogRecord({"msg": "Unprocessable: /invitations/Abc-_123/"})
    assert formatter.format(record) == "Unprocessable: /invitations/.../"
