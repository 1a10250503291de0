"""Each decoder takes some hundred mutated inputs; `python -m tests.fuzz` takes millions."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.mutate import run
from tests.fuzz.targets import TARGETS, Target

INPUTS = 300


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_no_input_does_what_none_may_do(target: Target) -> None:
    count, failures = run(target, random.Random(target.name), more=lambda done: done < INPUTS)
    assert [(one.body, one.error) for one in failures] == []
    assert count == INPUTS


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_a_good_input_is_no_failure(target: Target) -> None:
    for seed in target.seeds:
        target.check(seed)
