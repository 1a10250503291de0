"""What holds for any tariff and any usage."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from operator import itemgetter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.rating.difference import still_owed
from billing.rating.period import Period
from billing.rating.rate import PricedTerms, RatedLine, Usage, rate, segments
from billing.rating.tariff import Terms, parse
from tests.pure.tables import at
from tests.pure.tariffs import BEIJING, component, costs, steps

REGISTERS = ("input", "cache_read", "output", "requests")
MODELS = ("qwen-plus", "qwen-max", "other")
# Three days are enough: a Thursday, a holiday, a Saturday. Few distinct values, so that steps,
# allowances and segments are met and crossed again and again.
PERIOD = Period(at("2026-09-23T16:00"), at("2026-09-26T16:00"))
QUARTER = timedelta(minutes=15)
CUTS = [PERIOD.start + number * QUARTER for number in (1, 37, 50, 72, 130, 250)]
STARTS = [PERIOD.start, *CUTS, PERIOD.end - QUARTER]
STEPS = steps((0, "3.00"), (500, "2.50"), (2_000, "0.0001"))
POOL = [
    component("plus", models=["qwen-plus"], registers=["input", "output"], price="0.4"),
    component("all", registers=["output", "input", "cache_read"], price="1.0001"),
    component("abroad", registers=["input"], regions=["us"], price="0"),
    component("steps", models=["qwen-*"], registers=["output", "input"], steps=STEPS),
    component("all-steps", registers=["input"], steps=steps((0, "1"), (1_000, "4.5"))),
    component(
        "hours", models=["qwen-max"], registers=["input"], prices={"peak": "2", "off_peak": "1"}
    ),
    component("cache_read", prices={"peak": "0.1", "off_peak": "0.3"}),
]
FREE = {"code": "free", "models": ["*"]}
ALLOWANCES = [
    [FREE | {"tokens": 700, "registers": ["input", "output"]}],
    [FREE | {"tokens": 1, "registers": ["output"]}],
    [
        FREE | {"tokens": 999, "models": ["qwen-*"], "registers": ["cache_read", "input"]},
        FREE | {"tokens": 1_500, "code": "more", "registers": ["output", "input"]},
    ],
]

documents = st.builds(
    lambda components, allowances: {
        "currency": "USD",
        "calendar": BEIJING,
        **({"allowances": allowances} if allowances else {}),
        "components": components,
    },
    st.lists(st.sampled_from(POOL), min_size=1, max_size=4, unique_by=itemgetter("code")),
    st.sampled_from([None, *ALLOWANCES]),
)
two_versions = st.builds(
    lambda first, second, cut: [
        PricedTerms("v1", Period(PERIOD.start, cut), parse(first)),
        PricedTerms("v2", Period(cut, PERIOD.end), parse(second)),
    ],
    documents,
    documents,
    st.sampled_from(CUTS),
)
KINDS = [
    (start, start + QUARTER, model, register, region, "standard")
    for start in STARTS
    for model in MODELS
    for register in REGISTERS
    for region in ("cn", "us")
]
usages = st.lists(
    st.builds(
        lambda kind, quantity: Usage(*kind, quantity), st.sampled_from(KINDS), st.integers(0, 2_000)
    ),
    max_size=8,
)
modest = settings(max_examples=25, deadline=None)


def in_segment(item: Usage, stretches: list[PricedTerms]) -> Usage:
    """Return the same usage as the shell reports it: with the bounds of its segment."""
    (home,) = (
        segment for segment in segments(stretches) if segment.start <= item.start < segment.end
    )
    return replace(item, start=home.start, end=home.end)


def quantities_of(items: list[Usage] | list[RatedLine]) -> Counter[tuple[str, str]]:
    totals: Counter[tuple[str, str]] = Counter()
    for item in items:
        if item.register != "requests":
            totals[item.model, item.register] += item.quantity
    return totals


@modest
@given(usages, two_versions)
def test_no_token_is_lost_and_none_is_invented(
    usage: list[Usage], stretches: list[PricedTerms]
) -> None:
    assert quantities_of(rate(usage, stretches)) == quantities_of(usage)


@modest
@given(usages, two_versions, st.randoms(use_true_random=False))
def test_the_order_of_usage_does_not_matter(
    usage: list[Usage], stretches: list[PricedTerms], random: Any
) -> None:
    shuffled = random.sample(usage, len(usage))
    lines, again = rate(usage, stretches), rate(shuffled, stretches)
    assert again == lines
    assert [line.trace for line in again] == [line.trace for line in lines]


@modest
@given(usages, two_versions, st.integers(0, 2_000))
def test_splitting_a_usage_or_summing_it_by_segment_does_not_matter(
    usage: list[Usage], stretches: list[PricedTerms], share: int
) -> None:
    split = [
        replace(item, quantity=part)
        for item in usage
        for part in (min(share, item.quantity), max(0, item.quantity - share))
    ]
    summed = [in_segment(item, stretches) for item in usage]
    lines = rate(usage, stretches)
    assert rate(split, stretches) == lines
    assert rate(summed, stretches) == lines


@modest
@given(usages, usages, two_versions)
def test_owed_and_billed_make_the_whole(
    early: list[Usage], late: list[Usage], stretches: list[PricedTerms]
) -> None:
    billed, whole = rate(early, stretches), rate(early + late, stretches)
    owed = still_owed(whole, billed)
    assert costs(owed) + costs(billed) == costs(whole)
    assert still_owed(whole, billed + owed) == []
    assert all(line.quantity for line in owed)
    together = quantities_of(owed)
    together.update(quantities_of(billed))
    assert +together == +quantities_of(whole)


@modest
@given(usages, two_versions, two_versions)
def test_a_corrected_tariff_is_a_difference_too(
    usage: list[Usage], wrong: list[PricedTerms], right: list[PricedTerms]
) -> None:
    billed, whole = rate(usage, wrong), rate(usage, right)
    assert costs(still_owed(whole, billed)) == costs(whole) - costs(billed)


@modest
@given(usages, two_versions)
def test_rating_twice_owes_nothing(usage: list[Usage], stretches: list[PricedTerms]) -> None:
    assert still_owed(rate(usage, stretches), rate(usage, stretches)) == []


@modest
@given(usages, documents, st.integers(0, 3))
def test_raising_a_price_never_lowers_a_bill(
    usage: list[Usage], document: dict[str, Any], place: int
) -> None:
    def bill(of: dict[str, Any]) -> Decimal:
        return costs(rate(usage, [PricedTerms("v1", PERIOD, parse(of))]))

    dearer = list(document["components"])
    index = place % len(dearer)
    dearer[index] = raised(dearer[index])
    assert bill(document | {"components": dearer}) >= bill(document)


def raised(some: dict[str, Any]) -> dict[str, Any]:
    match some:
        case {"price": price}:
            return some | {"price": more(price)}
        case {"steps": [first, *rest]}:
            return some | {
                "steps": [first, *({**step, "price": more(step["price"])} for step in rest)]
            }
        case {"prices": prices}:
            return some | {"prices": prices | {"peak": more(prices["peak"])}}
    raise AssertionError(some)


def more(price: str) -> str:
    return str(Decimal(price) + Decimal("0.01"))


@modest
@given(two_versions)
def test_segments_tile_the_billing_period(stretches: list[PricedTerms]) -> None:
    pieces = segments(stretches)
    assert (pieces[0].start, pieces[-1].end) == (PERIOD.start, PERIOD.end)
    assert all(before.end == after.start for before, after in pairwise(pieces))
    changes = [(piece.version, piece.bucket) for piece in pieces]
    assert all(before != after for before, after in pairwise(changes))


@modest
@given(documents)
def test_terms_come_back_from_their_document(document: dict[str, Any]) -> None:
    terms: Terms = parse(document)
    assert parse(terms.as_document()) == terms
    assert terms.as_document() == document


@modest
@given(usages, two_versions)
def test_a_trace_lies_within_the_period_and_its_version(
    usage: list[Usage], stretches: list[PricedTerms]
) -> None:
    of_version = {stretch.version: stretch.period for stretch in stretches}
    for line in rate(usage, stretches):
        period = of_version[line.version]
        first, last = str(line.trace["first"]), str(line.trace["last"])
        assert period.start <= datetime.fromisoformat(first) < datetime.fromisoformat(last)
        assert datetime.fromisoformat(last) <= period.end
