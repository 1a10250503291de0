"""What every door answers when it refuses: an RFC 9457 problem document. Pure.

Each code has one row here: its HTTP status, its title, and what to do next. The page
`/errors/<code>` and docs/reference/errors.md are made from this table.
"""

import json
from dataclasses import dataclass, field
from http import HTTPStatus

from accounts.keys import masked

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2  # where nobody knows better


@dataclass(frozen=True, slots=True)
class Kind:
    """One way a whole request can be refused."""

    status: int
    title: str
    next_step: str


KINDS: dict[str, Kind] = {
    "missing_credentials": Kind(
        401, "No API key was sent", "Send the header `Authorization: Bearer kt_...`."
    ),
    "invalid_api_key": Kind(
        401,
        "The API key is not valid",
        "It is unknown, revoked or expired. Make a new one on the portal's Keys page.",
    ),
    "scope_missing": Kind(
        403, "The API key may not do this", "Use a key that has the scope named in `detail`."
    ),
    "organization_suspended": Kind(
        403,
        "The organization is suspended",
        "Ask the operator. Usage that is sent meanwhile is kept among the rejections, uncounted; "
        "replay it there afterwards.",
    ),
    "not_found": Kind(404, "There is nothing here", "Check the address."),
    "method_not_allowed": Kind(
        405, "This address does not take that method", "Use a method named in the Allow header."
    ),
    "request_timeout": Kind(
        408, "The request took too long to arrive", "Send it again; nothing was stored."
    ),
    "body_too_large": Kind(413, "The request body is too large", "Split the batch."),
    "too_many_events": Kind(413, "There are too many events in one request", "Split the batch."),
    "unsupported_media_type": Kind(
        415, "This media type is not taken here", "Use a type named in `detail`."
    ),
    "unsupported_encoding": Kind(
        415, "This content encoding is not taken here", "Use gzip or zstd, or send it as it is."
    ),
    "bad_encoding": Kind(
        400,
        "The body cannot be unpacked",
        "Compress it again, whole, with the encoding that Content-Encoding names.",
    ),
    "decompressed_too_large": Kind(
        413, "The request body is too large once it is unpacked", "Split the batch."
    ),
    "empty_body": Kind(400, "The request has no body", "Send at least one event."),
    "not_utf8": Kind(400, "The body is not UTF-8", "Encode it as UTF-8 without a byte order mark."),
    "malformed_json": Kind(400, "The body is not JSON", "Mend what `detail` points at."),
    "malformed_protobuf": Kind(
        400, "The body is not the protobuf message asked for", "Send what `detail` names."
    ),
    "duplicate_key": Kind(
        400, "An object names the same key twice", "Send each key once: we do not guess."
    ),
    "too_deep": Kind(400, "The JSON is nested too deeply", "Flatten it."),
    "wrong_shape": Kind(
        400, "The body has the wrong shape", "Send an event object, an array of them, or NDJSON."
    ),
    "empty_batch": Kind(422, "The batch holds no event", "Send at least one event."),
    # One event at a time: these stand beside the event in the answer, never alone.
    "not_an_object": Kind(422, "An event is not a JSON object", "Send one object for each event."),
    "id_required": Kind(422, "An event has no id", "Make an id once and keep it for retries."),
    "id_not_string": Kind(422, "An id is not a string", "Put it in quotes."),
    "id_invalid": Kind(
        422, "An id cannot be kept as it is", "Send 1 to 128 visible characters, no outer spaces."
    ),
    "source_invalid": Kind(
        422, "A source is missing or cannot be kept as it is", "Name the sending system."
    ),
    "time_required": Kind(422, "An event has no occurred_at", "Send when it happened."),
    "time_format": Kind(
        422, "A time is not RFC 3339 with an offset", "Send it such as 2026-11-18T10:07:30.250Z."
    ),
    "time_invalid": Kind(422, "A time names no real moment", "Send a moment that exists."),
    "timestamp_in_future": Kind(
        422, "A time lies in the future", "Check the sender's clock, then send the event again."
    ),
    "timestamp_too_old": Kind(422, "A time is too long ago", "Send it in a backfill."),
    "model_required": Kind(422, "An event names no model", "Name the model that was used."),
    "wrong_type": Kind(422, "A field has the wrong type", "Send the type named in `detail`."),
    "too_long": Kind(422, "A text is too long", "Shorten it to what `detail` allows."),
    "invalid_character": Kind(
        422, "A text holds a character that is not allowed", "Use those named in `detail`."
    ),
    "unknown_field": Kind(
        422, "An event has a field we do not know", "Correct its name or leave it out."
    ),
    "field_not_allowed": Kind(
        422, "A field is not the sender's to say", "Leave it out: the server knows it."
    ),
    "content_not_allowed": Kind(
        422, "What was said, or a secret, was sent", "Leave it out: only quantities belong here."
    ),
    "quantity_required": Kind(422, "An event has no usage", "Send at least one register."),
    "register_invalid": Kind(
        422, "A register cannot be named so", "Use small letters, digits and underscores."
    ),
    "unknown_register": Kind(
        422,
        "A register was probably meant to be another one",
        "Send the register or the usage_format named in `detail`.",
    ),
    "too_many_registers": Kind(422, "An event has too many registers", "Send at most 16."),
    "not_an_integer": Kind(
        422, "A quantity is not written as a whole number", "Send a JSON integer."
    ),
    "not_finite": Kind(422, "A quantity is not finite", "Send a JSON integer."),
    "negative_quantity": Kind(
        422, "A quantity is negative", "Take back what was wrong with voids or amends."
    ),
    "quantity_too_large": Kind(
        422, "A quantity is too large", "Check its unit; at most 10^12 are allowed."
    ),
    "usage_format_invalid": Kind(
        422,
        "The usage is not of the format named",
        "Name the provider whose usage it is, or send registers without usage_format.",
    ),
    "inconsistent_tokens": Kind(
        422,
        "The counts contradict each other",
        "Send what the provider reported; `detail` has the equation with its numbers.",
    ),
    "unknown_usage_class": Kind(
        422,
        "The usage holds a count that no rule knows",
        "Send it as a register of your own, or replay it once the operator has updated.",
    ),
    "cloudevent_invalid": Kind(
        422, "A CloudEvent is not as it must be", "Mend the attribute in `detail`."
    ),
    "span_invalid": Kind(
        422, "A span is not as it must be", "Update the instrumentation that made it."
    ),
    "unknown_project": Kind(
        422, "The key can report for no such project", "Make the project or correct its name."
    ),
    "event_conflict": Kind(
        422,
        "Another event has this source and id",
        "The first one stands. Send this one with a new id if it is another event.",
    ),
    # Corrections and backfills.
    "nothing_to_void": Kind(
        422,
        "There is no such event to take back",
        "Name the id of an accepted event of the same source, and send it again after that one.",
    ),
    "already_voided": Kind(
        422,
        "The event was taken back before",
        "Do what `detail` says: amend the newest, or send a new event.",
    ),
    "void_is_final": Kind(
        422, "A void cannot be taken back", "Send the usage again, as an event with a new id."
    ),
    "event_reverted": Kind(
        422,
        "The event was in a backfill that was reverted",
        "It counts nowhere. Send it with a new id if it shall count.",
    ),
    "outside_backfill": Kind(
        422, "An event happened outside its backfill's time", "Open a backfill for that time."
    ),
    "not_in_backfill": Kind(
        422, "A correction cannot be sent in a backfill", "Send it without `backfill`."
    ),
    "unknown_backfill": Kind(404, "There is no such backfill", "Open one, or correct its number."),
    "backfill_not_open": Kind(
        409, "The backfill takes nothing any more", "Open another one and send the events there."
    ),
    "too_many_backfills": Kind(
        409, "Too many backfills are open", "Close or revert one of them first."
    ),
    "batch_refused": Kind(
        422, "Another event spoiled an atomic batch", "Mend that one and send all of them again."
    ),
    "invalid_parameter": Kind(400, "A parameter is not valid", "Mend the parameter in `detail`."),
    "invalid_request": Kind(422, "The request is not valid", "Mend the fields in `errors`."),
    "rate_limited": Kind(429, "Too many requests", "Wait as long as Retry-After says."),
    "too_many_names": Kind(
        422,
        "The organization has too many different names",
        "Put what never repeats into `session`, or have the operator raise the limit; replay it.",
    ),
    "internal_error": Kind(
        500, "Something is wrong on our side", "Send it again; it is safe to repeat."
    ),
    "temporarily_unavailable": Kind(
        503,
        "The service cannot store anything now",
        "Send it again, with the same ids, after Retry-After seconds: nothing is counted twice.",
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal: which kind, and one sentence on what is wrong here."""

    code: str
    detail: str
    extra: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.code not in KINDS:
            raise ValueError(f"{self.code} has no row in accounts.problems.KINDS")

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return KINDS[self.code].status

    @property
    def status_line(self) -> str:
        """Status and reason, as WSGI wants them."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"

    def document(self, *, instance: str, request_id: str) -> dict[str, object]:
        """The problem document as a mapping."""
        kind = KINDS[self.code]
        return {
            "type": f"/errors/{self.code}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "next_step": kind.next_step,
            "request_id": request_id,
            **self.extra,
        }

    def body(self, *, instance: str, request_id: str) -> bytes:
        """The problem document as JSON bytes; a key sent in the wrong place is not echoed."""
        return masked(json.dumps(self.document(instance=instance, request_id=request_id))).encode()

    def headers(self) -> list[tuple[str, str]]:
        """The headers that this kind of refusal owes its reader."""
        headers = [("Content-Type", MEDIA_TYPE), ("Cache-Control", "no-store")]
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", 'Bearer realm="kilotoken"'))
        if self.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            headers.append(("Retry-After", str(self.extra.get("retry_after_s", RETRY_AFTER_S))))
        return headers
