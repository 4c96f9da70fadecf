"""The queue of a shared unit: how long one waits, and how long the next one may make it."""

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
leeways = st.builds(
    WaitBudget, seconds=st.just(0.0) | st.floats(1e-4, 3.0), z=st.sampled_from([0.0, 1.28, 1.645, 2.33]), queue=queues
)


def test_wait__has_the_mean_and_deviation_of_pollaczek_and_khinchine() -> None:
    """At half load behind requests of 10 ms: 5 ms, and 7.6 ms to either side."""
    queue = Queue.from_parts([(0.3, 0.01), (0.2, 0.01)])
    assert queue.mean == pytest.approx(0.005)
    assert queue.sigma == pytest.approx(sqrt(0.005**2 + 50 * 0.01**3 / (3 * 0.5)))
    assert queue.tail(1.645) == pytest.approx(queue.mean + 1.645 * queue.sigma)


def test_rare_long_requests__wait_little_on_average_and_long_at_the_tail() -> None:
    rare, frequent = Queue.from_parts([(0.1, 1.0)]), Queue.from_parts([(0.1, 0.01)])
    assert (rare.mean, frequent.mean) == (pytest.approx(0.0556, abs=1e-4), pytest.approx(0.000556, abs=1e-6))
    assert rare.sigma > 3 * rare.mean


def test_wait__is_that_of_a_simulated_queue() -> None:
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


def test_unit_without_time__is_waited_for_in_vain() -> None:
    assert (Queue.from_parts([(1.0, 0.1)]).mean, Queue.from_parts([(1.0, 0.1)]).sigma) == (inf, inf)
    assert Queue.from_parts([(0.5, 0.1), (0.5, 0.2)]).tail(1.645) == inf


def _behind(leeway: WaitBudget, rate: float, seconds: float) -> float:
    """The tail of waiting behind a newcomer, too."""
    queue, time = leeway.queue, rate * seconds
    longer = Queue(
        queue.utilisation + time, queue.second_moment + time * seconds, queue.third_moment + time * seconds**2
    )
    return longer.tail(leeway.z)


@given(leeway=leeways, rate=st.floats(0.01, 20.0), most=seconds)
def test_longest_request_of_a_newcomer__makes_the_wait_just_as_long_as_it_can_be_borne(
    leeway: WaitBudget, rate: float, most: float
) -> None:
    found = leeway.max_service_time(rate, most)
    if found == inf:
        assert _behind(leeway, rate, most) <= leeway.seconds * (1 + 1e-9)
    elif found > 0:
        assert found <= most
        assert _behind(leeway, rate, found * (1 - 1e-9)) <= leeway.seconds
        assert _behind(leeway, rate, found * (1 + 1e-9)) >= leeway.seconds
    else:
        assert leeway.queue.tail(leeway.z) >= leeway.seconds * (1 - 1e-9)


@given(ours=st.lists(leeways, max_size=3), theirs=st.lists(leeways, max_size=3), rate=st.floats(0.01, 20.0))
def test_leeways_that_cover_others__bear_whatever_these_do(
    ours: list[WaitBudget], theirs: list[WaitBudget], rate: float
) -> None:
    assert max_service_time(drop_redundant(ours), rate, 2.0) == max_service_time(ours, rate, 2.0)
    joined = [*ours, *theirs]
    assert dominates_all(ours, joined)
    if dominates_all(ours, theirs):
        assert max_service_time(ours, rate, 2.0) >= max_service_time(theirs, rate, 2.0) * (1 - 1e-9)


def _beside(limit: str, enforcement: str) -> Snapshot:
    """A mission that takes 50 ms on the only unit, four times a second, and a newcomer that takes 0.1 ms."""
    large = variant("fp32", [block("all", mop=500, cut=None)])
    small = model(variant("fp32", [block("all", mop=1, cut=None)]), inputs=10)
    objectives = {"latency": {"atMost": limit, "enforcement": enforcement}}
    late = mission("late", objectives=objectives, demand={"rate": "1/s"})
    newcomer = mission("watch", model={"name": "small"}, objectives={"latency": {"atMost": "2s"}})
    found = snapshot(profiles={"drone": profile("p")}, missions=[late, newcomer], net=model(large, inputs=10))
    body = small.to_api() | {"metadata": meta("small", "default")}
    found = replace(found, models=found.models | {"default/small": Model.model_validate(body)})
    held = decide(found, "default/late").chosen
    assert held is not None
    return replace(found, current_plans={"default/late": held})


@pytest.mark.parametrize("limit", ["1ms", "10ms", "49ms"])
def test_mission_that_is_late_already__closes_its_units_to_no_other(limit: str) -> None:
    """It has no slack to lose: it counts as one that was promised nothing."""
    hard, soft = (decide(_beside(limit, how), "default/watch") for how in ("Hard", "Soft"))
    assert isinstance(hard, Feasible)
    assert isinstance(soft, Feasible)
    assert hard.plan == soft.plan


def test_mission_that_is_just_in_time__is_made_late_by_no_other() -> None:
    verdict = plan(_beside("54.113ms", "Hard"), "default/watch")
    assert isinstance(verdict, Infeasible)
    assert [b.code for b in verdict.blockers][:1] == ["UnitOccupied"]
