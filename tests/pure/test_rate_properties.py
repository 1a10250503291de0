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
from billing.rating.event import Event, band_of
from billing.rating.events import rate_events, usage_of
from billing.rating.period import Period
from billing.rating.rate import PricedTerms, RatedLine, Usage, rate, segments
from billing.rating.tariff import Terms, parse
from tests.pure.tables import at
from tests.pure.tariffs import BEIJING, component, costs, factor, steps, tiers

REGISTERS = ("input", "cache_read", "output", "requests")
MODELS = ("qwen-plus", "qwen-max", "other")
# Three days are enough: a Thursday, a holiday, a Saturday. Few distinct values, so that steps,
# allowances and segments are met and crossed again and again.
PERIOD = Period(at("2026-09-23T16:00"), at("2026-09-26T16:00"))
QUARTER = timedelta(minutes=15)
CUTS = [PERIOD.start + number * QUARTER for number in (1, 37, 50, 72, 130, 250)]
STARTS = [PERIOD.start, *CUTS, PERIOD.end - QUARTER]
STEPS = steps((0, "3.00"), (500, "2.50"), (2_000, "0.0001"))
SPOT = {
    "start": "2026-09-24T00:00:00Z",
    "step_minutes": 360,
    "prices": ["1", None, "0.5", "2", None],
}
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
    component("whole", registers=["input", "output"], shape="volume", steps=STEPS),
    component("sizes", registers=["output"], tiers=tiers((0, "1"), (1_000, "2"), (5_000, "0.5"))),
    component("packs", models=["qwen-*"], registers=["input"], size=700, price="0.7", per=1),
    component("long", registers=["input"], price="3", when={"input_above": 1_000}),
    component("thinking", registers=["output"], price="8", when={"thinking": True}),
    component("spot", models=["other"], registers=["input"], series=SPOT),
]
MODIFIERS = [
    factor("batch", "service_class", "0.5", "all", service_classes=["batch"]),
    factor("cached", "token_class", "0.2", "all", registers=["cache_read"]),
    factor("abroad", "region", "1.1", regions=["us"]),
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

STACKING = [None, "multiply", "exclusive_best", "exclusive_priority"]
documents = st.builds(
    lambda components, allowances, stacking: {
        "currency": "USD",
        "calendar": BEIJING,
        **({"allowances": allowances} if allowances else {}),
        "components": components,
        **({"modifiers": MODIFIERS, "stacking": {"all": stacking}} if stacking else {}),
    },
    st.lists(st.sampled_from(POOL), min_size=1, max_size=4, unique_by=itemgetter("code")),
    st.sampled_from([None, *ALLOWANCES]),
    st.sampled_from(STACKING),
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
    (start, start + QUARTER, model, register, region, service_class)
    for start in STARTS
    for model in MODELS
    for register in REGISTERS
    for region, service_class in (("cn", "standard"), ("us", "standard"), ("us", "batch"))
]
usages = st.lists(
    st.builds(
        lambda kind, quantity, band, thinking: Usage(*kind, quantity, band, thinking),
        st.sampled_from(KINDS),
        st.integers(0, 2_000),
        st.sampled_from([0, 1_000, 5_000]),
        st.booleans(),
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
        if item.register not in ("requests", "packages"):  # packages count besides
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
        case {"tiers": [first, *rest]}:
            return some | {"tiers": [first | {"price": more(first["price"])}, *rest]}
        case {"series": {"prices": [first, *rest]}}:
            return some | {"series": some["series"] | {"prices": [more(first), *rest]}}
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
    of_terms = {stretch.version: stretch.terms for stretch in stretches}
    for before, after in pairwise(pieces):
        same = (before.version, before.bucket) == (after.version, after.bucket)
        spot = any(one.code == "spot" for one in of_terms[after.version].components)
        assert spot or not same


@modest
@given(documents)
def test_terms_come_back_from_their_document(document: dict[str, Any]) -> None:
    terms: Terms = parse(document)
    assert parse(terms.as_document()) == terms
    assert parse(document).as_document() == terms.as_document()
    if not any("series" in part for part in document["components"]):  # instants in one form
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


calls = st.lists(
    st.builds(
        lambda start, model, usage, service_class, ended: Event(
            "e", start, model, usage, service_class=service_class, ended_at=start + ended
        ),
        st.sampled_from(STARTS),
        st.sampled_from(MODELS),
        st.dictionaries(
            st.sampled_from(["input", "cache_read", "output", "reasoning"]), st.integers(0, 3_000)
        ),
        st.sampled_from(["standard", "batch"]),
        st.sampled_from([timedelta(), QUARTER / 2]),
    ),
    max_size=6,
)


@modest
@given(calls, two_versions, st.randoms(use_true_random=False))
def test_events_and_the_readings_made_of_them_cost_the_same(
    events: list[Event], stretches: list[PricedTerms], random: Any
) -> None:
    """The meter's bands may be finer than the tariff's, and the order of events says nothing."""
    finer = [0, 500, 1_000, 2_500, 5_000]
    by_reading: Counter[Usage] = Counter()
    for item in usage_of(events, stretches):
        by_reading[replace(item, quantity=0)] += item.quantity
    readings = [replace(item, quantity=quantity) for item, quantity in by_reading.items()]
    lines = rate_events(random.sample(events, len(events)), stretches)
    assert rate(readings, stretches) == lines
    shell = [
        replace(item, input_band=band_of(event.input_tokens, finer))
        for event in events
        for item in usage_of([event], stretches)
    ]
    assert costs(rate(shell, stretches)) == costs(lines)


@modest
@given(calls, documents)
def test_a_request_in_two_halves_may_reach_another_tier_and_nothing_else_changes(
    events: list[Event], document: dict[str, Any]
) -> None:
    """Splitting changes what looks at a request as a whole: tiers, conditions, counts of calls."""
    whole_request = ("tiers", "when")
    components = [
        part
        for part in document["components"]
        if not any(name in part for name in whole_request) and part["registers"] != ["requests"]
    ]
    if not components:
        return
    stretches = [PricedTerms("v1", PERIOD, parse(document | {"components": components}))]
    halves = [
        replace(event, usage={name: part(quantity) for name, quantity in event.usage.items()})
        for event in events
        for part in (lambda quantity: quantity // 2, lambda quantity: quantity - quantity // 2)
    ]
    assert costs(rate_events(halves, stretches)) == costs(rate_events(events, stretches))
