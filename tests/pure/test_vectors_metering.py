"""Worked cases of meter data: registers, gaps, checks, seals, identity."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from billing.rating.event import Event, is_input
from billing.rating.gathering import Identities, Outcome
from metering.usage import registers
from metering.usage.dialects import DIALECTS
from metering.usage.dialects.table import Unreadable
from metering.validation import checks, register, sealed, stock
from metering.validation.estimation import filled, interpolated, scaled
from metering.validation.image_tokens import Vision
from metering.validation.quality import Quality, worst
from metering.validation.register import NegativeAdvance, RegisterReading
from tests.pure.tables import at
from tests.pure.vectors import SIGNATURE_56, figure


def test_tv_02_registers_of_a_dialect_are_made_disjoint() -> None:
    reported = {
        "prompt_tokens": 12_345,
        "completion_tokens": 678,
        "total_tokens": 13_023,
        "prompt_tokens_details": {"cached_tokens": 8_192},
    }
    read = DIALECTS["openai_chat"].read
    assert read(reported) == {"input": 4_153, "cache_read": 8_192, "output": 678}
    with pytest.raises(Unreadable):
        read({**reported, "prompt_tokens_details": {"cached_tokens": 12_346}})


def test_tv_11_an_image_is_so_many_patches() -> None:
    assert Vision(32).tokens(720, 1_280) == int(figure(11, "qwen3_vl"))
    assert Vision(28).tokens(720, 1_280) == int(figure(11, "qwen25_vl"))
    assert Vision(28).tokens(20, 20) == int(figure(11, "thumb_20x20_28"))
    assert Vision(28).tokens(10_000, 10_000) <= 2_560 + 2


def test_tv_12_a_holding_is_tokens_times_hours() -> None:
    start = at("2026-09-24T12:00")
    held = stock.Holding(100_000, start, start + timedelta(hours=2, minutes=30))
    assert stock.token_hours([held]) == 250_000
    thirds = [stock.Holding(1, start, start + timedelta(minutes=20))] * 3
    assert stock.token_hours(thirds) == 1  # rounded once, not three times to nothing


TV_46 = [1052, 1064, 1076, 1088]


def test_tv_46_a_short_gap_is_a_straight_line() -> None:
    raw = [1000, 1040, None, None, None, None, 1100, 1090]
    found = filled(raw)
    assert [one.quantity for one in found[2:6]] == TV_46
    assert {one.quality for one in found[2:6]} == {Quality.ESTIMATED_LINEAR}
    assert interpolated(0, 3, 1) == [2]  # halves up


def test_a_long_gap_is_like_other_days_and_scaled_to_a_known_advance() -> None:
    found = filled([5, *[None] * 9, 7], [[10] * 11, [13] * 11])
    assert [(one.quantity, one.quality) for one in found[1:10]] == [
        (12, Quality.ESTIMATED_LIKE_DAY)
    ] * 9
    assert scaled([1, 1, 1], 100) == [33, 34, 33]
    assert sum(scaled([3, 0, 9, 5], 1_234_567)) == 1_234_567
    assert scaled([0, 0], 3) == [2, 1]
    with pytest.raises(ValueError, match="like days"):
        filled([None, 1])


def test_tv_47_intervals_must_add_up_to_the_register() -> None:
    check = checks.sum_check(96_500, [1_000] * 96)
    assert check.difference == int(figure(47, "difference"))
    assert check.tolerance == Decimal(figure(47, "tolerance"))
    assert not check.passed
    assert checks.sum_check(96_480, [1_000] * 96).passed


def test_tv_48_a_value_out_of_all_proportion_is_a_spike() -> None:
    peaks = [340, 120, 110, 100]
    assert checks.spike_ratio(peaks) == Fraction(23, 11)
    assert checks.is_spike(peaks)
    assert not checks.is_spike([300, 120, 110, 100])
    assert not checks.is_spike([300, 1])


def test_a_value_is_compared_with_like_days() -> None:
    assert checks.in_band(150, [100, 100, 90, 110])
    assert not checks.in_band(151, [100, 100, 90, 110])
    assert checks.in_band(5, [])


def test_a_line_carries_the_worst_quality_in_it() -> None:
    assert worst([Quality.VALID, Quality.VALID, Quality.ESTIMATED_LINEAR]) == (
        Quality.ESTIMATED_LINEAR
    )
    with pytest.raises(ValueError, match="RAW"):
        worst([Quality.RAW, Quality.VALID])


READING = {
    "meter": "MTR-0001",
    "seq": 1,
    "start": "2026-09-28T01:00:00Z",
    "end": "2026-09-28T01:15:00Z",
    "regs": {"in": 120_000, "out": 4_500},
    "q": "valid",
    "prev": sealed.FIRST,
}
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


def test_tv_56_a_chain_of_sealed_readings_cannot_be_mended_unseen() -> None:
    first = sealed.seal(READING, SEED)
    assert first.digest == figure(56, "h1")
    assert first.signature.hex() == SIGNATURE_56
    after = {
        "start": "2026-09-28T01:15:00Z",
        "end": "2026-09-28T01:30:00Z",
        "regs": {"in": 98_000, "out": 3_900},
    }
    second = sealed.seal({**READING, "seq": 2, "prev": first.digest, **after}, SEED)
    assert second.digest == figure(56, "h2")
    key = Ed25519PrivateKey.from_private_bytes(SEED).public_key()
    public = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert public.hex() == figure(56, "pub")
    sealed.verify([first, second], public)
    changed = replace(first, payload=first.payload.replace(b"120000", b"120001"))
    for chain, why in (
        ([changed, second], "signature"),
        ([second], "one is missing"),
        ([first, sealed.seal({**READING, "seq": 2, **after}, SEED)], "does not follow"),
    ):
        with pytest.raises(sealed.SealBroken, match=why):
            sealed.verify(chain, public)


def test_tv_61_the_same_twice_is_once_and_other_facts_are_a_conflict() -> None:
    sent = [("gw-1", 500), ("gw-1", 500), ("gw-1", 700), ("gw-2", 500)]
    events = [
        Event("e1", at("2026-09-24T12:00"), "m", {"input": tokens}, source=source)
        for source, tokens in sent
    ]
    identities = Identities()
    told = [(identities.outcome(event), event.usage["input"]) for event in events]
    taken = [tokens for outcome, tokens in told if outcome is Outcome.TAKEN]
    conflicts = [tokens for outcome, tokens in told if outcome is Outcome.CONFLICT]
    assert sum(taken) == int(figure(61, "accepted_tokens"))
    assert len(told) - len(taken) - len(conflicts) == int(figure(61, "duplicates"))
    assert len(conflicts) == int(figure(61, "conflicts"))
    assert conflicts == [700]


def test_tv_62_a_register_rolls_over_or_starts_anew() -> None:
    before = RegisterReading(999_990_000)
    rolled = register.advance(before, RegisterReading(15_000), roll_over_at=1_000_000_000)
    assert rolled == int(figure(62, "rollover_advance"))
    reset = register.advance(before, RegisterReading(15_000, epoch=1), roll_over_at=1_000_000_000)
    assert reset == int(figure(62, "reset_advance"))
    with pytest.raises(NegativeAdvance, match="ran backwards"):
        register.advance(before, RegisterReading(15_000))
    assert register.advance(before, RegisterReading(999_990_001)) == 1


def test_tv_63_interim_reads_of_a_stream_are_cumulative() -> None:
    reads = [100, 250, 400]
    assert register.of_stream(reads) == int(figure(63, "billed_output"))
    assert sum(reads) == int(figure(63, "wrong_sum")) != register.of_stream(reads)
    with pytest.raises(NegativeAdvance):
        register.of_stream([100, 90])


def test_what_is_input_is_input_by_its_name() -> None:
    known = {name for name in registers.KNOWN if is_input(name)}
    assert known == {
        "input",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "cache_write_12h",
        "input_audio",
        "cache_read_audio",
        "input_document",
        "cache_read_document",
        "input_image",
        "cache_read_image",
        "input_video",
        "cache_read_video",
    }
    assert not is_input("cache_token_hours")
