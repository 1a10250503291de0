"""The meter's bands are those that rating asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rating import event
from billing.rating.events import Event
from metering.usage import bands, registers
from tests.pure.tables import at, rows

LIMITS = (16_000, 16_384, 32_000, 1_048_576)
BANDS = """
input  | cache_read | output | band
0      | 0          | 900000 | 0
16_000 | 0          | 0      | 0
16_001 | 0          | 0      | 16_000
2_000  | 30_000     | 0      | 16_384
2_001  | 30_000     | 0      | 32_000
0      | 2_000_000  | 0      | 1_048_576
"""


@pytest.mark.parametrize(("plain", "cached", "output", "band"), rows(BANDS))
def test_a_band_counts_the_whole_input_and_ends_with_its_limit(
    plain: str, cached: str, output: str, band: str
) -> None:
    usage = {"input": int(plain), "cache_read": int(cached), "output": int(output)}
    assert bands.band(usage, LIMITS) == int(band)


@given(st.dictionaries(st.sampled_from(sorted(registers.KNOWN)), st.integers(0, 2_000_000)))
def test_meter_and_rating_agree_on_what_input_is(usage: dict[str, int]) -> None:
    tokens = Event("e", at("2026-09-24"), "m", usage).input_tokens
    assert event.band_of(tokens, LIMITS) == bands.band(usage, LIMITS)
