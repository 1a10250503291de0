"""RELIABILITY section 6.2, the rows about one event: what is wrong with it and what it is told.

A row is a good event with something changed. It is sent in every form, in every place of a batch
and in both modes by tests/web/test_bad_input_events.py, and read alone by
tests/pure/test_usage_event.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

KEY = "kt_abcdefghijkl_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1v"


class Written(str):
    """JSON text that stands in the body as it is, which Python values cannot say: 12.0, -0."""

    __slots__ = ()


class Row(NamedTuple):
    """One fault of one event."""

    number: int  # of the row in RELIABILITY 6.2: 24 is B-24
    rule: str
    fields: Mapping[str, object]  # `...` leaves a field out
    code: str
    pointer: str  # into a native event
    says: str  # part of the sentence: what is allowed, or what to do
    retryable: bool = False


def _usage(value: object) -> dict[str, object]:
    return {"usage": {"input": value}}


def _written(text: str) -> dict[str, object]:
    return _usage(Written(text))


def _chat(**usage: object) -> dict[str, object]:
    return {"usage_format": "openai_chat", "usage": usage}


_VISIBLE = "1 to 128 visible characters"
_WHOLE = "Send a JSON integer from 0 to 1000000000000"
_TAKE_BACK = "take back what was reported wrongly with voids or amends"
_RFC_3339 = "Send RFC 3339 with an offset"
_IN, _AT, _ID, _MODEL = "/usage/input", "/occurred_at", "/id", "/model"

EVENTS: tuple[Row, ...] = (
    # Too much of anything
    Row(19, "a key is too long", {"k" * 129: 1}, "too_long", "", "at most 128"),
    Row(19, "there are too many keys", {f"k{n}": 1 for n in range(10_001)}, "too_long", "",
        "at most 10000"),
    Row(19, "a model is a whole page", {"model": "m" * 9_000}, "too_long", _MODEL, "1 to 128"),
    Row(19, "a word in a provider's usage is a whole page",
        _chat(prompt_tokens=1, note="x" * 9_000), "too_long", "/usage/note", "at most 8192"),
    Row(19, "a provider's usage has too many values",
        _chat(**{f"k{n}": "x" for n in range(300)}), "too_long", "/usage", "more than 200"),
    # Identity
    Row(24, "id is missing", {"id": ...}, "id_required", _ID, "1 to 128 characters are needed"),
    Row(24, "id is empty", {"id": ""}, "id_required", _ID, "keep it for retries"),
    Row(24, "id is null", {"id": None}, "id_required", _ID, "keep it for retries"),
    Row(24, "id is blank", {"id": " "}, "id_required", _ID, "keep it for retries"),
    Row(24, "id is a no-break space", {"id": "\u00a0"}, "id_required", _ID, "keep it for retries"),
    Row(25, "id is a number", {"id": 123}, "id_not_string", _ID, "Put it in quotes"),
    Row(25, "id is a boolean", {"id": True}, "id_not_string", _ID, "Put it in quotes"),
    Row(25, "id is an array", {"id": ["a"]}, "id_not_string", _ID, "an array was sent"),
    Row(25, "id is a fraction", {"id": Written("1.5")}, "id_not_string", _ID, "a number was sent"),
    Row(26, "id is too long", {"id": "x" * 129}, "id_invalid", _ID, "has 129 characters"),
    Row(26, "id begins with a space", {"id": " a"}, "id_invalid", _ID, "Nothing is trimmed"),
    Row(26, "id ends with a space", {"id": "a "}, "id_invalid", _ID, "Nothing is trimmed"),
    Row(26, "id ends with a no-break space", {"id": "a\u00a0"}, "id_invalid", _ID, r"U\+00A0"),
    Row(26, "id holds a line end", {"id": "a\nb"}, "id_invalid", _ID, r"U\+000A at position 1"),
    Row(26, "id holds a delete", {"id": "a\x7fb"}, "id_invalid", _ID, r"U\+007F"),
    Row(26, "id is turned around", {"id": "a\u202eb"}, "id_invalid", _ID, r"U\+202E"),
    Row(26, "id holds a space of no width", {"id": "a\u200bb"}, "id_invalid", _ID, r"U\+200B"),
    Row(26, "id is not in form NFC", {"id": "e\u0301"}, "id_invalid", _ID, "form NFC"),
    Row(32, "source is missing", {"source": ...}, "source_invalid", "/source", "are needed"),
    Row(32, "source is empty", {"source": ""}, "source_invalid", "/source", "are needed"),
    Row(32, "source is a number", {"source": 7}, "source_invalid", "/source", "Put it in quotes"),
    Row(32, "source holds a tab", {"source": "a\tb"}, "source_invalid", "/source", _VISIBLE),
    Row(32, "source ends with a space", {"source": "a "}, "source_invalid", "/source", _VISIBLE),
    Row(32, "source is too long", {"source": "x" * 129}, "source_invalid", "/source", _VISIBLE),
    # What is not known here: our words for a meter are a usage class, for a customer a project
    Row(33, "a provider counts what no rule knows",
        _chat(prompt_tokens=9, smell_tokens=4), "unknown_usage_class", "/usage/smell_tokens",
        "ask the operator to update"),
    *(Row(33, f"a register is called {name}", {"usage": {"output": 1, name: 5}},
          "unknown_register", f"/usage/{name}", says)
      for name, says in (
          ("inputs", "Did you mean 'input'"), ("ouput_audio", "Did you mean 'output_audio'"),
          ("input_tokens", "with usage_format .*anthropic"),
          ("cached_input", "Did you mean 'cache_read'"),
          ("prompt_tokens", "with usage_format openai_chat"),
          ("reasoning_tokens", "Did you mean 'reasoning'"),
      )),
    Row(33, "usage is of no known format", {"usage_format": "openai_chatt"},
        "usage_format_invalid", "/usage_format", "openai_chat, openai_responses"),
    Row(34, "the project is archived", {"project": "archived"}, "unknown_project", "/project",
        "Make it on the portal's Projects page", retryable=True),
    Row(35, "the project never was", {"project": "never-was"}, "unknown_project", "/project",
        "Make it on the portal's Projects page", retryable=True),
    Row(35, "the project is another organization's", {"project": "theirs"}, "unknown_project",
        "/project", "Make it on the portal's Projects page", retryable=True),
    # Time
    Row(38, "time is missing", {"occurred_at": ...}, "time_required", _AT, "a retry would then"),
    Row(38, "time is null", {"occurred_at": None}, "time_required", _AT, "a retry would then"),
    Row(38, "time is empty", {"occurred_at": ""}, "time_required", _AT, "a retry would then"),
    Row(39, "time is in seconds", {"occurred_at": 1763460450}, "time_format", _AT, _RFC_3339),
    Row(39, "time is in milliseconds", {"occurred_at": 1763460450000}, "time_format", _AT,
        _RFC_3339),
    Row(39, "time is seconds in quotes", {"occurred_at": "1763460450"}, "time_format", _AT,
        _RFC_3339),
    Row(39, "time is a date", {"occurred_at": "2026-11-18"}, "time_format", _AT, _RFC_3339),
    Row(39, "time has no offset", {"occurred_at": "2026-11-18T10:07:30"}, "time_format", _AT,
        "has no offset from UTC"),
    Row(39, "time is by the week", {"occurred_at": "2026-W47-3T10:07:30Z"}, "time_format", _AT,
        _RFC_3339),
    Row(39, "time has no dashes", {"occurred_at": "20261118T100730Z"}, "time_format", _AT,
        _RFC_3339),
    Row(39, "time has no seconds", {"occurred_at": "2026-11-18T10:07Z"}, "time_format", _AT,
        _RFC_3339),
    Row(39, "time has a space for a T", {"occurred_at": "2026-11-18 10:07:30Z"}, "time_format",
        _AT, _RFC_3339),
    Row(39, "time is in small letters", {"occurred_at": "2026-11-18t10:07:30z"}, "time_format",
        _AT, _RFC_3339),
    Row(39, "time has a decimal comma", {"occurred_at": "2026-11-18T10:07:30,5Z"}, "time_format",
        _AT, _RFC_3339),
    Row(39, "time begins with a space", {"occurred_at": " 2026-11-18T10:07:30Z"}, "time_format",
        _AT, _RFC_3339),
    Row(39, "time is finer than we keep", {"occurred_at": "2026-11-18T10:07:30.1234567Z"},
        "time_format", _AT, "more than six digits"),
    Row(39, "time is in Arabic digits", {"occurred_at": "\u0662026-11-18T10:07:30Z"},
        "time_format", _AT, _RFC_3339),
    Row(40, "a local time that happened twice", {"occurred_at": "2026-10-25T02:30:00"},
        "time_format", _AT, "so it names no moment"),
    Row(41, "a leap day in another year", {"occurred_at": "2026-02-29T10:07:30Z"}, "time_invalid",
        _AT, "does not exist"),
    Row(41, "a day too many", {"occurred_at": "2026-11-31T10:07:30Z"}, "time_invalid", _AT,
        "months have their own length"),
    Row(41, "a thirteenth month", {"occurred_at": "2026-13-01T10:07:30Z"}, "time_invalid", _AT,
        "does not exist"),
    Row(41, "twenty-four o'clock", {"occurred_at": "2026-11-18T24:00:00Z"}, "time_invalid", _AT,
        "hours end at 23"),
    Row(41, "a leap second", {"occurred_at": "2026-11-18T10:07:60Z"}, "time_invalid", _AT,
        "seconds at 59"),
    Row(41, "an offset of more than a day", {"occurred_at": "2026-11-18T10:07:30+25:00"},
        "time_invalid", _AT, "does not exist"),
    Row(42, "time lies ahead", {"occurred_at": "2026-11-18T10:12:31Z"}, "timestamp_in_future",
        _AT, r"301 s ahead of the server's clock \(2026-11-18T10:07:30Z\); at most 300 s",
        retryable=True),
    Row(42, "time lies ahead by its offset", {"occurred_at": "2026-11-18T12:12:31+02:00"},
        "timestamp_in_future", _AT, "301 s ahead", retryable=True),
    Row(43, "time is a second too old", {"occurred_at": "2026-10-14T10:07:29Z"},
        "timestamp_too_old", _AT, "older than 35 days .*backfill"),
    Row(43, "time is the beginning of Unix", {"occurred_at": "1970-01-01T00:00:00Z"},
        "timestamp_too_old", _AT, "Open a backfill"),
    Row(45, "year 1", {"occurred_at": "0001-01-01T00:00:00+14:00"}, "time_invalid", _AT,
        "a year out of reach"),
    Row(45, "year 0", {"occurred_at": "0000-01-01T00:00:00Z"}, "time_invalid", _AT, "out of reach"),
    Row(45, "year 9999", {"occurred_at": "9999-12-31T23:59:59Z"}, "time_invalid", _AT,
        "a year out of reach"),
    Row(45, "for ever", {"occurred_at": "infinity"}, "time_format", _AT, _RFC_3339),
    # Quantity
    Row(46, "usage is missing", {"usage": ...}, "quantity_required", "/usage", "one register"),
    Row(46, "usage is null", {"usage": None}, "quantity_required", "/usage", "one register"),
    Row(46, "usage is empty", {"usage": {}}, "quantity_required", "/usage", "one register"),
    Row(46, "a provider's usage is empty", _chat(), "quantity_required", "/usage", "one register"),
    *(Row(47, f"a quantity is written as {text!a}", _usage(text), "not_an_integer", _IN, _WHOLE)
      for text in ("12", " 12 ", "1_0", "\u0661\u0662", "0x10", "1e3", "12.0", "")),
    Row(47, "a quantity is 1e3", _written("1e3"), "not_an_integer", _IN, _WHOLE),
    Row(48, "a quantity is 12.0", _written("12.0"), "not_an_integer", _IN, _WHOLE),
    Row(48, "a quantity is 12.5", _written("12.5"), "not_an_integer", _IN, _WHOLE),
    Row(49, "a quantity is negative", _usage(-1), "negative_quantity", _IN, _TAKE_BACK),
    Row(49, "a long quantity is negative", _written("-" + "9" * 40), "negative_quantity", _IN,
        _TAKE_BACK),
    Row(49, "a provider's count is negative",
        _chat(prompt_tokens=5, prompt_tokens_details={"cached_tokens": -2}), "negative_quantity",
        "/usage/prompt_tokens_details/cached_tokens", _TAKE_BACK),
    Row(50, "a quantity is minus nothing", _written("-0"), "not_an_integer", _IN, _WHOLE),
    Row(50, "a quantity is -0.0", _written("-0.0"), "not_an_integer", _IN, _WHOLE),
    Row(51, "a quantity is above 10^12", _usage(10**12 + 1), "quantity_too_large", _IN, _WHOLE),
    Row(51, "a provider's count is above 10^12", _chat(prompt_tokens=10**13), "quantity_too_large",
        _IN, _WHOLE),
    Row(52, "a quantity is 2^63", _usage(2**63), "quantity_too_large", _IN, _WHOLE),
    Row(52, "a quantity has 400 digits", _written("9" * 400), "quantity_too_large", _IN, _WHOLE),
    Row(52, "a quantity has 5,000 digits", _written("9" * 5_000), "quantity_too_large", _IN,
        _WHOLE),
    *(Row(53, f"a quantity is {text}", _usage(text), "not_finite", _IN, _WHOLE)
      for text in ("NaN", "inf", "Infinity", "-Infinity")),
    Row(53, "a quantity is beyond every float", _written("1e400"), "not_finite", _IN, _WHOLE),
    Row(53, "an exponent is beyond every float", _written("1e1000000000000"), "not_finite", _IN,
        _WHOLE),
    *(Row(54, f"a quantity is {kind}", _usage(value), "wrong_type", _IN, f"input is {kind}")
      for kind, value in (("a boolean", True), ("null", None), ("an array", []),
                          ("an object", {}))),
    Row(54, "usage is an array", {"usage": [1]}, "wrong_type", "/usage", "an array was sent"),
    Row(54, "usage is a number", {"usage": 12}, "wrong_type", "/usage", "a number was sent"),
    Row(56, "more was cached than sent",
        _chat(prompt_tokens=10, prompt_tokens_details={"cached_tokens": 11}),
        "inconsistent_tokens", "/usage/prompt_tokens",
        "prompt_tokens 10 is less than what it holds, prompt_tokens_details.cached_tokens 11"),
    Row(56, "the parts are not the total",
        _chat(prompt_tokens=10, completion_tokens=5, total_tokens=99), "inconsistent_tokens",
        "/usage/total_tokens", r"prompt_tokens 10 \+ completion_tokens 5 = 15, but total_tokens "
        "is 99"),
    # Fields
    Row(57, "a field is misspelt", {"modell": "x"}, "unknown_field", "/modell",
        "Did you mean 'model'"),
    Row(57, "a field of a correction is misspelt", {"void": "evt-0"}, "unknown_field", "/void",
        "of a correction besides voids, amends, reason. Did you mean 'voids'"),
    Row(57, "a field is nobody's", {"a/b~c": 12}, "unknown_field", "/a~1b~0c", "the fields are"),
    Row(57, "counts stand outside usage", {"tokens": 12}, "unknown_field", "/tokens",
        "the fields are"),
    *(Row(58, f"{name} is sent", {name: 1}, "field_not_allowed", f"/{name}", "Leave the field out")
      for name in ("organization", "tenant", "price", "received_at", "batch_id")),
    Row(58, "requests are counted by the sender", {"usage": {"requests": 1}}, "field_not_allowed",
        "/usage/requests", "counted here"),
    # Characters
    Row(59, "id holds a NUL", {"id": "a\x00b"}, "id_invalid", _ID, r"U\+0000 at position 1"),
    Row(59, "id holds half a character", {"id": "a\ud800b"}, "id_invalid", _ID, r"U\+D800"),
    Row(59, "session holds a NUL", {"session": "a\x00"}, "invalid_character", "/session",
        r"'a\\x00' is not allowed; allowed are"),
    Row(59, "session ends with a line end", {"session": "a\n"}, "invalid_character", "/session",
        r"'a\\n'"),
    Row(59, "agent holds half a character", {"agent": "a\ud800"}, "invalid_character", "/agent",
        r"'a\\ud800'"),
    Row(59, "a field's name holds a NUL", {"\x00": 1}, "unknown_field", r"/\x00",
        "the fields are"),
    Row(60, "model is turned around", {"model": "a\u202eb"}, "invalid_character", _MODEL,
        "allowed are 1 to 128 letters"),
    Row(60, "model holds a space of no width", {"model": "a\u200bb"}, "invalid_character", _MODEL,
        "Rename it"),
    Row(60, "model is HTML", {"model": "<b>"}, "invalid_character", _MODEL, "Rename it"),
    Row(60, "model is a formula", {"model": "=cmd()"}, "invalid_character", _MODEL, "Rename it"),
    Row(60, "model holds a space", {"model": "a b"}, "invalid_character", _MODEL, "Rename it"),
    Row(60, "model is empty", {"model": ""}, "invalid_character", _MODEL, "Rename it"),
    Row(60, "project is a path", {"project": "a/b"}, "invalid_character", "/project", "Rename it"),
    Row(60, "region holds a space", {"region": "eu west"}, "invalid_character", "/region",
        "Rename it"),
    Row(60, "service_class shouts", {"service_class": "Batch!"}, "invalid_character",
        "/service_class", "1 to 40 small letters"),
    # Names and registers, our word for dimensions
    Row(61, "model is missing", {"model": ...}, "model_required", _MODEL, "name the model"),
    Row(61, "model is null", {"model": None}, "model_required", _MODEL, "name the model"),
    Row(61, "model is a number", {"model": 4}, "wrong_type", _MODEL, "Put it in quotes"),
    Row(61, "agent is nested", {"agent": {"a": 1}}, "wrong_type", "/agent", "an object was sent"),
    Row(61, "agent is too long", {"agent": "x" * 257}, "too_long", "/agent", "1 to 128"),
    Row(61, "there are seventeen registers", {"usage": {f"r{n}": 1 for n in range(17)}},
        "too_many_registers", "/usage", "at most 16"),
    Row(61, "a register has capitals", {"usage": {"Input": 1}}, "register_invalid",
        "/usage/Input", "small letters"),
    Row(61, "a register is too long", {"usage": {"a" * 41: 1}}, "register_invalid",
        f"/usage/{'a' * 41}", "1 to 40"),
    Row(61, "a register has no name", {"usage": {"": 1}}, "register_invalid", "/usage/", "1 to 40"),
    Row(61, "a register is a path", {"usage": {"a/b": 1}}, "register_invalid", "/usage/a~1b",
        "1 to 40"),
    # What was said, and what opens doors
    *(Row(63, f"{name} is sent", {name: "Tell me"}, "content_not_allowed", f"/{name}",
          "never stored here")
      for name in ("prompt", "messages", "completion", "response")),
    Row(63, "id holds one of our keys", {"id": f"call {KEY}"}, "content_not_allowed", _ID,
        "revoke that key"),
    Row(63, "api_key is a whole key", {"api_key": KEY}, "content_not_allowed", "/api_key",
        "revoke that key"),
    Row(63, "a register is named like a key", {"usage": {KEY: 1}}, "content_not_allowed",
        "/usage", "named like an API key"),
    *(Row(63, f"api_key is {whose}", {"api_key": secret}, "content_not_allowed", "/api_key",
          "revoke that key")
      for whose, secret in (
          ("OpenAI's", "sk-proj-" + "a1B2c3D4" * 6), ("DeepSeek's", "sk-" + "0123456789abcdef" * 2),
          ("GitHub's", "ghp_" + "a1B2c3D4e5F6" * 3), ("Amazon's", "AKIA" + "IOSFODNN7EXAMPLE"),
          ("Google's", "AIza" + "a1B2c3D" * 5), ("Hugging Face's", "hf_" + "a1B2c3D4" * 4 + "ab"),
      )),
    Row(63, "session is a JSON web token", {"session": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0."
                                            "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"},
        "content_not_allowed", "/session", "revoke that key"),
)  # fmt: skip

SECRETS = tuple(
    value
    for row in EVENTS
    if row.code == "content_not_allowed"
    for value in (*row.fields, *row.fields.values())
    if isinstance(value, str) and len(value) >= 20
)


class Text(NamedTuple):
    """A fault of the JSON itself: lines keep it to themselves, everything else is refused whole."""

    number: int
    rule: str
    good: str  # what stands in every good event
    bad: str
    code: str
    says: str


TEXTS: tuple[Text, ...] = (
    Text(15, "a comma is left over", '"output": 80}', '"output": 80,}', "malformed_json",
         r"line \d+, column \d+"),
    Text(15, "a bracket is missing", '"output": 80}', '"output": 80', "malformed_json",
         r"line \d+, column \d+"),
    Text(15, "quotes are single", '"input": 1200', "'input': 1200", "malformed_json", "line"),
    Text(15, "a number begins with 0", '"input": 1200', '"input": 01200', "malformed_json", "line"),
    Text(15, "a number has a plus", '"input": 1200', '"input": +1200', "malformed_json", "line"),
    Text(15, "a string holds a tab", '"input": 1200', '"in\tput": 1200', "malformed_json", "line"),
    Text(16, "a register stands twice", '"input": 1200', '"input": 1, "input": 1200',
         "duplicate_key", "'input' twice"),
    Text(16, "a register stands twice, once escaped", '"input": 1200',
         '"inp\\u0075t": 1, "input": 1200', "duplicate_key", "'input' twice"),
    Text(16, "a model stands twice", '"model":', '"model": "n", "model":', "duplicate_key",
         "'model' twice"),
    Text(17, "objects are nested too deep", '"input": 1200',
         '"input": ' + '{"a": ' * 20 + "1" + "}" * 20, "too_deep", "more than 16 deep"),
    Text(17, "arrays are nested far too deep", '"input": 1200',
         '"input": ' + "[" * 5_000 + "]" * 5_000, "too_deep", "more than 16 deep"),
    Text(18, "a quantity is NaN", '"input": 1200', '"input": NaN', "malformed_json",
         "NaN is not JSON"),
    Text(18, "a quantity is Infinity", '"input": 1200', '"input": Infinity', "malformed_json",
         "Infinity is not JSON"),
    Text(18, "a quantity is -Infinity", '"input": 1200', '"input": -Infinity', "malformed_json",
         "-Infinity is not JSON"),
)  # fmt: skip
