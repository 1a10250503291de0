"""The sender loses nothing and repeats nothing, against a server that fails as servers do."""

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from workloads import sender
from workloads.request import Request
from workloads.sender import Batch, NotAccepted, NotSent, Sender

START = datetime(2026, 11, 1, tzinfo=UTC)


class Server(ThreadingHTTPServer):
    """Remembers identities as the real door does; `script` is what goes wrong, request by request.

    An entry is a status to refuse with, "lost" (stored, but the answer never arrives), or None.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[object] = []
        self.bodies: list[bytes] = []
        self.keys: list[str] = []
        self.stored: dict[str, dict] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api/v1/events"

    def store(self, body: bytes) -> dict:
        events = json.loads(body)
        counts = dict.fromkeys(("accepted", "duplicate", "conflict", "rejected"), 0)
        errors = []
        for index, event in enumerate(events):
            status = self.became(event)
            counts[status] += 1
            if status in ("conflict", "rejected"):
                errors.append({"index": index, "id": event["id"], "status": status, "code": "c"})
        return {"submitted": len(events), **counts, "events": errors}

    def became(self, event: dict) -> str:
        if event["model"] == "unknown":
            return "rejected"
        before = self.stored.setdefault(event["id"], event)
        if before is event:
            return "accepted"
        return "duplicate" if before == event else "conflict"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.keys.append(self.headers["Authorization"])
            wrong = self.server.script.pop(0) if self.server.script else None
            if isinstance(wrong, int):
                return self.answer(wrong, {"detail": "not now"})
            said = self.server.store(body)
        if wrong == "lost":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        return self.answer(207 if said["events"] else 202, said)

    def answer(self, status: int, said: dict) -> None:
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(sender, "PAUSE_S_FIRST", 0.001)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def batch(first: int, count: int, *, model: str = "m", mark: int = 0) -> Batch:
    requests = [
        Request(str(number), number, model, {"input": number})
        for number in range(first, first + count)
    ]
    events = [sender.event(request, source="test", start=START) for request in requests]
    return Batch("kt_key", events, mark)


def test_every_event_is_answered_for_and_marks_come_back_in_order(server):
    batches = [batch(number * 10, 10, mark=number) for number in range(20)]
    with Sender(server.url) as sending:
        marks = [answer.mark for answer in sending.send(batches)]
    assert marks == list(range(20))
    assert (sending.tally.submitted, sending.tally.accepted) == (200, 200)
    assert len(server.stored) == 200
    assert set(server.keys) == {"Bearer kt_key"}


def test_sending_again_is_a_success_that_adds_nothing(server):
    with Sender(server.url) as sending:
        list(sending.send([batch(0, 10)]))
        list(sending.send([batch(0, 10)]))
    assert (sending.tally.accepted, sending.tally.duplicate) == (10, 10)


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_busy_server_is_asked_again_with_the_same_bytes(server, status):
    server.script = [status, status, None]
    with Sender(server.url, connections=1) as sending:
        list(sending.send([batch(0, 3)]))
    assert (sending.tally.accepted, sending.tally.retries) == (3, 2)
    assert len(set(server.bodies)) == 1


def test_a_lost_answer_costs_duplicates_and_never_a_second_event(server):
    server.script = ["lost", None]
    with Sender(server.url, connections=1) as sending:
        list(sending.send([batch(0, 3)]))
    assert (sending.tally.accepted, sending.tally.duplicate) == (0, 3)
    assert len(server.stored) == 3


def test_an_unreachable_server_is_given_up_on_after_a_while(server):
    refused = pytest.raises(NotSent, match="cannot be reached")
    with Sender("http://127.0.0.1:1/api/v1/events", patience_s=0) as sending, refused:
        list(sending.send([batch(0, 1)]))


@pytest.mark.parametrize("status", [400, 401, 413, 500])
def test_what_another_try_would_not_change_is_not_tried_again(server, status):
    server.script = [status]
    with Sender(server.url) as sending, pytest.raises(NotSent, match=f"{status}: not now"):
        list(sending.send([batch(0, 1)]))
    assert len(server.bodies) == 1


@pytest.mark.parametrize("second", [batch(0, 1, model="other"), batch(5, 1, model="unknown")])
def test_a_conflict_or_a_rejection_is_an_error_unless_it_was_expected(server, second):
    refused = pytest.raises(NotAccepted, match="1 of 1 events")
    with Sender(server.url, connections=1) as sending, refused:
        list(sending.send([batch(0, 1), second]))
    with Sender(server.url, tolerant=True) as sending:
        list(sending.send([second]))
    assert sending.tally.conflict + sending.tally.rejected == 1


def test_a_body_over_the_limit_goes_in_parts(server, monkeypatch):
    monkeypatch.setattr(sender, "BODY_BYTES_MAX", 500)
    with Sender(server.url) as sending:
        (answer,) = sending.send([batch(0, 10, mark=7)])
    assert (answer.mark, answer.tally.accepted, len(server.stored)) == (7, 10, 10)
    assert len(server.bodies) > 1
    assert max(map(len, server.bodies)) <= 500


def test_no_batch_is_read_long_before_it_can_be_sent(server):
    read = []

    def batches() -> Iterator[Batch]:
        for number in range(50):
            read.append(number)
            yield batch(number, 1, mark=number)

    with Sender(server.url, connections=2) as sending:
        answers = sending.send(batches())
        next(answers)
        assert len(read) <= 4


def test_an_event_says_its_instant_to_the_microsecond_in_utc():
    start = datetime(2026, 11, 1, 0, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=8)))
    request = Request("1", 1, "m", {"input": 5}, labels={"project": "search"})
    event = sender.event(request, source="s", start=start)
    assert event["occurred_at"] == "2026-10-31T16:00:01.000000Z"
    assert event["project"] == "search"
