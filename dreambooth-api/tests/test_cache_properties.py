"""The cache's promises under random sequences of operations, and that the same test fails without each guard."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from cache_machine import CacheMachine
from cache_mutants import MUTANTS
from cache_worker import Nursery
from fault_counts import LONG, SHORT
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

FINDS_EARLY = {
    "manifest first": 9,
    "trusts the bucket": 11,
    "trusts the disk": 0,
    "downloads in place": 2,
    "ignores pins": 2,
    "reserves nothing": 7,
    "everyone fetches": 3,
}
"""Seeds with which one of the first sequences finds the missing guard: every seed does, but most take longer."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


def run(nursery: Nursery, *, examples: int, steps: int, first_seed: int, mutant: str = "") -> None:
    """Run random sequences; hypothesis prints the one that fails."""
    machine = type("CacheMachine", (CacheMachine,), {"mutant": mutant, "nursery": nursery})
    run_state_machine_as_test(
        seed(first_seed)(machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # shortening a sequence of processes takes too long
            report_multiple_bugs=False,
            suppress_health_check=[*HealthCheck],
        ),
    )


def run_promises(nursery: Nursery, *, examples: int, steps: int) -> None:
    first_seed = random.randrange(1 << 32)
    print("seed", first_seed)
    run(nursery, examples=examples, steps=steps, first_seed=first_seed)


def test_promises_hold(nursery: Nursery) -> None:
    run_promises(nursery, examples=SHORT.examples, steps=SHORT.steps)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_promises_hold_long(nursery: Nursery) -> None:
    run_promises(nursery, examples=LONG.examples, steps=LONG.steps)


def run_mutant(nursery: Nursery, mutant: str) -> None:
    for examples in (4, 100):
        run(nursery, examples=examples, steps=40, first_seed=FINDS_EARLY[mutant], mutant=mutant)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_missing_guard_is_noticed(nursery: Nursery, mutant: str) -> None:
    # Given the code without one of its guards
    # When the same sequences run over it, then a promise is broken
    with pytest.raises((AssertionError, Flaky)):  # flaky: two processes at once broke it, or did not
        run_mutant(nursery, mutant)
