"""Registers that were meant to be other ones, and those that are somebody's own."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.usage import registers
from metering.usage.dialects import DIALECTS
from metering.usage.misnamed import advice

OWN = ("vector_rows", "gpu_seconds", "somebodys_own", "own", "video_seconds", "r1", "x",
       "cache_write_2h", "cache_write_24h", "token_hours", "input_text", "pages")  # fmt: skip


@pytest.mark.parametrize("name", [*registers.KNOWN, *OWN])
def test_a_known_register_and_one_of_somebodys_own_are_taken(name: str) -> None:
    assert advice(name) is None


@pytest.mark.parametrize("known", sorted(registers.KNOWN))
def test_every_slip_of_the_hand_is_seen(known: str) -> None:
    for place in range(len(known)):
        head, letter, tail = known[:place], known[place], known[place + 1 :]
        if letter.isdigit():
            continue
        other = "q" if letter == "z" else "z"
        slips = {
            head + tail,
            head + other + letter + tail,
            head + other + tail,
            head + tail[:1] + letter + tail[1:],
        }
        for slip in slips - registers.KNOWN.keys():
            if not any(one.isdigit() for one in tail[:1]):
                assert advice(slip), slip


def test_no_two_registers_are_one_slip_apart() -> None:
    """Else a slip would be another register, and nobody could see it."""
    for known in registers.KNOWN:
        assert advice(known) is None
        assert advice(f"{known}s") is not None or f"{known}s" in registers.KNOWN


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_count_at_the_top_of_a_providers_usage_is_no_register(dialect: str) -> None:
    for row in DIALECTS[dialect].rows:
        if "." not in row.path and row.path not in registers.KNOWN:
            assert "usage_format" in (advice(row.path) or ""), row.path


@given(st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=40))
def test_the_advice_names_something_that_may_be_sent(name: str) -> None:
    said = advice(name)
    if said and said.startswith("Did you mean"):
        assert said.split("'")[1] in registers.KNOWN
