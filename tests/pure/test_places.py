"""Where in a text a JSON pointer leads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating.places import Place, place_of

TEXT = """{
  "currency": "USD",
  "a/b~c": {"": 1},
  "components": [
    {"code": "in", "price": "0.40"},
    {"code": "out",
     "price":   -1}
  ]
}
"""


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        ("", (1, 1)),
        ("/currency", (2, 15)),
        ("/a~1b~0c", (3, 12)),
        ("/a~1b~0c/", (3, 17)),
        ("/components/0/price", (5, 29)),
        ("/components/1", (6, 5)),
        ("/components/1/price", (7, 17)),
        ("/components/1/models", (6, 5)),
        ("/components/9", (4, 17)),
        ("/components/1/price/x", (7, 17)),
        ("/nothing/at/all", (1, 1)),
    ],
)
def test_a_pointer_leads_to_a_line_and_a_column(pointer: str, place: tuple[int, int]) -> None:
    assert place_of(TEXT, pointer) == place


def test_lines_that_end_as_a_browser_sends_them_are_counted_once() -> None:
    assert place_of(TEXT.replace("\n", "\r\n"), "/components/1/price") == (7, 17)


@pytest.mark.parametrize("text", ["", "{", "[1,", '{"a" 1}', "nonsense", "[" * 100_000])
def test_a_text_that_is_no_json_has_no_places(text: str) -> None:
    assert place_of(text, "/a/0") is None


def test_a_place_reads_as_an_editor_says_it() -> None:
    assert str(Place(3, 12)) == "line 3, column 12"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)


def pointers(value: Any, pointer: str = "") -> list[tuple[str, Any]]:
    found = [(pointer, value)]
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for name, item in items:
        escaped = str(name).replace("~", "~0").replace("/", "~1")
        found += pointers(item, f"{pointer}/{escaped}")
    return found


@given(value=VALUES, indent=st.sampled_from([None, 1, 4]))
def test_what_stands_at_the_place_is_the_value(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    lines = text.split("\n")
    for pointer, wanted in pointers(value):
        place = place_of(text, pointer)
        assert place is not None
        rest = "\n".join([lines[place.line - 1][place.column - 1 :], *lines[place.line :]])
        assert json.JSONDecoder().raw_decode(rest)[0] == wanted
