"""Queue of a shared unit: waiting times, and the longest service time that an arriving mission may add."""

from dataclasses import replace
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_api.model import Model
from maleo_planner.cost_model.mg1 import Queue, WaitBudget, dominates_all, drop_redundant, max_service_time
from maleo_planner.planner import decide, plan
from maleo_planner.types.problem import Feasible, Infeasible, Snapshot
from support.planner.builders import block, meta, mission, model, profile, snapshot, variant

shares = st.floats(0.001, 0.3)
seconds = st.floats(0.001, 2.0)
queues = st.lists(st.tuples(shares, seconds), max_size=3).map(Queue.from_parts)
wait_budgets = st.builds(
    WaitBudget, seconds=st.just(0.0) | st.floats(1e-4, 3.0), z=st.sampled_from([0.0, 1.28, 1.645, 2.33]), queue=queues
)


def test_wait__has_the_mean_and_deviation_of_pollaczek_and_khinchine() -> None:
    """At half load with requests of 10 ms: a mean of 5 ms, a deviation of 7.6 ms."""
    queue = Queue.from_parts([(0.3, 0.01), (0.2, 0.01)])
    assert queue.mean == pytest.approx(0.005)
    assert queue.sigma == pytest.approx(sqrt(0.005**2 + 50 * 0.01**3 / (3 * 0.5)))
    assert queue.tail(1.645) == pytest.approx(queue.mean + 1.645 * queue.sigma)


def test_rare_long_requests__wait_little_on_average_and_long_at_the_tail() -> None:
    rare, frequent = Queue.from_parts([(0.1, 1.0)]), Queue.from_parts([(0.1, 0.01)])
    assert (rare.mean, frequent.mean) == (pytest.approx(0.0556, abs=1e-4), pytest.approx(0.000556, abs=1e-6))
    assert rare.sigma > 3 * rare.mean


def test_wait__equals_that_of_a_simulated_queue() -> None:
    """Poisson arrivals of two kinds, first come first served (Lindley), against the formula."""
    rng, kinds = np.random.default_rng(7), ((4.0, 0.05), (0.5, 0.4))
    many = 400_000
    rates = np.array([rate for rate, _ in kinds])
    between = rng.exponential(1 / rates.sum(), many)
    took = np.array([service for _, service in kinds])[rng.choice(2, many, p=rates / rates.sum())]
    waits, now = np.empty(many), 0.0
    for i in range(many):
        waits[i] = now
        now = max(0.0, now + took[i] - between[i])
    queue = Queue.from_parts([(rate * service, service) for rate, service in kinds])
    assert queue.mean == pytest.approx(waits.mean(), rel=0.05)
    assert queue.sigma == pytest.approx(waits.std(), rel=0.05)


def test_fully_utilised_unit__has_an_infinite_wait() -> None:
    assert (Queue.from_parts([(1.0, 0.1)]).mean, Queue.from_parts([(1.0, 0.1)]).sigma) == (inf, inf)
    assert Queue.from_parts([(0.5, 0.1), (0.5, 0.2)]).tail(1.645) == inf


def _tail_with_arrival(wait_budget: WaitBudget, rate: float, seconds: float) -> float:
    """Return the tail of the wait with the arriving mission added."""
    queue, time = wait_budget.queue, rate * seconds
    longer = Queue(
        queue.utilisation + time, queue.second_moment + time * seconds, queue.third_moment + time * seconds**2
    )
    return longer.tail(wait_budget.z)


@given(wait_budget=wait_budgets, rate=st.floats(0.01, 20.0), upper=seconds)
def test_max_service_time__uses_up_the_wait_budget_exactly(wait_budget: WaitBudget, rate: float, upper: float) -> None:
    found = wait_budget.max_service_time(rate, upper)
    if found == inf:
        assert _tail_with_arrival(wait_budget, rate, upper) <= wait_budget.seconds * (1 + 1e-9)
    elif found > 0:
        assert found <= upper
        assert _tail_with_arrival(wait_budget, rate, found * (1 - 1e-9)) <= wait_budget.seconds
        assert _tail_with_arrival(wait_budget, rate, found * (1 + 1e-9)) >= wait_budget.seconds
    else:
        assert wait_budget.queue.tail(wait_budget.z) >= wait_budget.seconds * (1 - 1e-9)


@given(ours=st.lists(wait_budgets, max_size=3), theirs=st.lists(wait_budgets, max_size=3), rate=st.floats(0.01, 20.0))
def test_dominating_wait_budgets__admit_every_mission_that_the_dominated_ones_admit(
    ours: list[WaitBudget], theirs: list[WaitBudget], rate: float
) -> None:
    assert max_service_time(drop_redundant(ours), rate, 2.0) == max_service_time(ours, rate, 2.0)
    joined = [*ours, *theirs]
    assert dominates_all(ours, joined)
    if dominates_all(ours, theirs):
        assert max_service_time(ours, rate, 2.0) >= max_service_time(theirs, rate, 2.0) * (1 - 1e-9)


def _late_and_arriving(limit: str, enforcement: str) -> Snapshot:
    """Return a mission that takes 50 ms on the only unit, once a second, and an arriving one that takes 0.1 ms."""
    large = variant("fp32", [block("all", mop=500, cut=None)])
    small = model(variant("fp32", [block("all", mop=1, cut=None)]), inputs=10)
    objectives = {"latency": {"atMost": limit, "enforcement": enforcement}}
    late = mission("late", objectives=objectives, demand={"rate": "1/s"})
    arriving = mission("watch", model={"name": "small"}, objectives={"latency": {"atMost": "2s"}})
    found = snapshot(profiles={"drone": profile("p")}, missions=[late, arriving], net=model(large, inputs=10))
    body = small.to_api() | {"metadata": meta("small", "default")}
    found = replace(found, models=found.models | {"default/small": Model.model_validate(body)})
    held = decide(found, "default/late").chosen
    assert held is not None
    return replace(found, current_plans={"default/late": held})


@pytest.mark.parametrize("limit", ["1ms", "10ms", "49ms"])
def test_mission_that_already_violates_its_limit__does_not_block_its_unit(limit: str) -> None:
    """It has no slack to lose, so a Hard limit restricts other missions no more than a Soft one."""
    hard, soft = (decide(_late_and_arriving(limit, how), "default/watch") for how in ("Hard", "Soft"))
    assert isinstance(hard, Feasible)
    assert isinstance(soft, Feasible)
    assert hard.plan == soft.plan


def test_mission_with_little_slack__excludes_others_that_would_make_it_late() -> None:
    verdict = plan(_late_and_arriving("54.113ms", "Hard"), "default/watch")
    assert isinstance(verdict, Infeasible)
    assert [b.code for b in verdict.blockers][:1] == ["UnitOccupied"]
