"""Ids are kept packed, each in a way of its own."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from metering.usage.identity import all_packed_hex, packed, packed_hex

TEXTS = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40)
UUIDS = st.uuids().map(str)
IDS = st.one_of(UUIDS, UUIDS.map(str.upper), TEXTS)


@given(IDS, IDS)
def test_two_ids_are_packed_alike_only_if_they_are_the_same(one: str, other: str) -> None:
    assert (packed(one) == packed(other)) is (one == other)


@given(st.uuids(), st.uuids())
def test_uuids_keep_their_order_and_take_seventeen_bytes(one: uuid.UUID, other: uuid.UUID) -> None:
    assert (packed(str(one)) < packed(str(other))) is (one < other)
    assert len(packed(str(one))) == 17


@given(st.one_of(st.lists(UUIDS, max_size=5), st.lists(IDS, max_size=5)))
def test_many_ids_are_packed_as_each_of_them_is(ids: list[str]) -> None:
    assert all_packed_hex(ids) == [packed_hex(one) for one in ids]
