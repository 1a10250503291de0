"""Who waits at the door is served in turn, organization by organization."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metering.ingest.turns import Turns

ARRIVALS = st.lists(st.integers(1, 4), max_size=60)


def queue(arrivals: list[int]) -> Turns[tuple[int, int]]:
    turns: Turns[tuple[int, int]] = Turns(waiting_max=1_000, each_max=1_000)
    for number, organization in enumerate(arrivals):
        assert turns.put(organization, (organization, number))
    return turns


def drained(turns: Turns[tuple[int, int]]) -> list[tuple[int, int]]:
    found = []
    while (item := turns.take()) is not None:
        found.append(item)
    return found


@given(ARRIVALS)
def test_everybody_is_served_once_and_their_own_in_order(arrivals: list[int]) -> None:
    served = drained(queue(arrivals))
    assert sorted(served) == sorted((one, number) for number, one in enumerate(arrivals))
    for organization in set(arrivals):
        own = [number for one, number in served if one == organization]
        assert own == sorted(own)


@given(ARRIVALS)
def test_nobody_is_served_twice_while_another_waits_for_the_first_time(arrivals: list[int]) -> None:
    served = [one for one, _ in drained(queue(arrivals))]
    for organization in set(arrivals):
        turns_before = served[: served.index(organization)]
        assert all(turns_before.count(one) <= 1 for one in turns_before)


def test_who_sends_ninety_percent_does_not_hold_up_the_others() -> None:
    served = drained(queue([1] * 90 + [2] * 5 + [3] * 5))
    assert max(place for place, (one, _) in enumerate(served) if one != 1) < 15


def test_there_is_room_for_so_many_and_for_so_many_of_each() -> None:
    turns: Turns[int] = Turns(waiting_max=3, each_max=2)
    assert [turns.put(1, 0), turns.put(1, 0), turns.put(1, 0)] == [True, True, False]
    assert [turns.put(2, 0), turns.put(2, 0)] == [True, False]
    turns.take()
    assert turns.put(2, 0)


def test_who_is_put_back_comes_before_its_own() -> None:
    turns = queue([1, 1, 2])
    first = turns.take()
    assert first is not None
    turns.put_back(1, first)
    assert drained(turns) == [(2, 2), (1, 0), (1, 1)]
    assert len(turns) == 0
