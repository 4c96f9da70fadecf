"""Which changes of inputs matter to a mission that could not be placed."""

from dataclasses import replace

import pytest

from maleo_operator.engine.memory import MissionMemory, Versions
from maleo_planner.types.problem import Blocker, Infeasible, Retry

_THEN = Versions(cluster=1, namespace=1, measurements=1, capacity=1)


def _failed(*retries: Retry) -> Infeasible:
    return Infeasible(tuple(Blocker("Code", retry, "message") for retry in retries), (), (), None)


@pytest.mark.parametrize(
    ("retries", "changed", "want"),
    [
        (("CannotEver",), {}, False),
        (("CannotEver",), {"cluster": 2}, True),
        (("CannotEver",), {"namespace": 2}, True),
        (("CannotEver",), {"measurements": 2}, True),
        (("CannotEver",), {"capacity": 2}, False),
        (("Waiting",), {"capacity": 2}, False),
        (("CannotEver", "CannotNow"), {"capacity": 2}, True),
        (("CannotNow",), {}, False),
    ],
)
def test_input_changes__are_those_that_could_make_a_mission_feasible(
    retries: tuple[Retry, ...], changed: dict[str, int], want: bool
) -> None:
    memory = MissionMemory(planned_at=0.0)
    memory.record_plan(_failed(*retries), _THEN, now=1.0)
    assert memory.has_input_changes(replace(_THEN, **changed)) is want


def test_attempts__count_failed_plans_in_a_row() -> None:
    memory = MissionMemory(planned_at=0.0)
    assert not memory.has_input_changes(_THEN), "never planned: that is a first placement"
    for number in (1, 2, 3):
        memory.record_plan(_failed("CannotEver"), _THEN, now=float(number))
        assert (memory.attempts, memory.planned_at) == (number, float(number))
