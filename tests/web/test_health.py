"""Whether the process lives and whether the whole is ready, and what says so."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from config import health
from metering.models import Heartbeat

pytestmark = pytest.mark.django_db


def test_alive_asks_nobody_else(client: Client, django_assert_num_queries: object) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert client.get("/healthz").json() == {"status": "alive"}


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_asked_and_never_told(path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "TRACE", "QUERY"):
        answer = Client(enforce_csrf_checks=True).generic(method, path)
        assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")


def test_ready_when_a_worker_was_just_seen(client: Client) -> None:
    Heartbeat.objects.create(worker="w1", seen_at=timezone.now())
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready"), answer.json()


@pytest.mark.parametrize("age_s", [None, 31])
def test_not_ready_without_a_worker_at_work(client: Client, age_s: int | None) -> None:
    if age_s is not None:
        Heartbeat.objects.create(worker="w1", seen_at=timezone.now() - timedelta(seconds=age_s))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["worker"] == "no worker seen for 30 s"


def test_not_ready_when_commits_are_not_durable(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
    assert "must be on" in client.get("/readyz").json()["checks"]["database"]


def test_a_broken_part_is_named_without_its_details(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise OperationalError("password of kilotoken is hunter2")

    monkeypatch.setattr(health, "_database", broken)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "failed: OperationalError"
    assert "hunter2" not in answer.content.decode()


def test_an_unknown_address_of_the_api_is_a_problem_document(client: Client) -> None:
    answer = client.get("/api/v1/nothing")
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"
    assert answer.json()["request_id"] == answer["X-Request-Id"]


def test_the_description_of_the_api_is_open_to_all(client: Client) -> None:
    answer = client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    assert "/api/v1/usage" in answer.json()["paths"]


@pytest.mark.django_db(transaction=True)
def test_no_request_fails_by_a_connection_that_died_in_the_pool() -> None:
    """The server was restarted; a request must not be the one to find that out."""
    answers: list[object] = []

    def request() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            answers.extend(cursor.fetchone())
        connection.close()  # back to the pool, as at the end of a request

    def in_a_thread() -> None:
        thread = threading.Thread(target=request)
        thread.start()
        thread.join()

    with connection.cursor() as cursor:  # first, so that it is not the one that dies
        in_a_thread()
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [answers[0]])
    in_a_thread()
    assert len(answers) == 2
