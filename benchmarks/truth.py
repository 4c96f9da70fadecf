"""Discrete-event simulation of plans: latency percentiles against predictions, with other load on the same units.

`python benchmarks/truth.py`. The simulation uses the planner's own figures: compute and transfer times are normally
distributed with the planner's deviations, requests of other missions are Poisson arrivals in the same FCFS queue. It
tests the composition of times, waits and percentiles, not whether a device is as fast as declared.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from random import Random
from statistics import median

import numpy as np
from measure import report
from numpy.typing import NDArray

from maleo_api.quantities import RATE, parse
from maleo_planner.inventory.reservations import rank_of
from maleo_planner.types.problem import Estimate, Plan, Snapshot
from support.planner.builders import by_mode
from support.planner.generators import one_mission

_KEY = "default/watch"
_INSTANCES = 400
_REQUESTS = 4000
_CLEAR = 0.05
"""Relative difference of the predicted tails from which one plan counts as faster than another."""

Times = NDArray[np.float64]


def simulate(found: Snapshot, plan: Plan, chance: np.random.Generator) -> Times:
    """Return the end-to-end seconds of each request; the mission's requests arrive periodically, as from a sensor."""
    born = np.arange(_REQUESTS) / parse(RATE, found.missions[_KEY].spec.demand.rate)
    now, transfers = born.copy(), {t.target: t.time for t in plan.transfers}
    for part in plan.partitions:
        if part.node in transfers:
            now = now + _draw(transfers.pop(part.node), now.size, chance)
        others = list(_others(found, (part.node, part.unit)))
        now = _serve(now, _draw(part.compute, now.size, chance), others, chance)
    return now - born


def _draw(figure: Estimate, count: int, chance: np.random.Generator) -> Times:
    return np.maximum(0.0, chance.normal(figure.value, figure.sigma, count))


def _others(found: Snapshot, unit: tuple[str, str]) -> Iterator[tuple[float, float]]:
    """Yield (requests/s, service seconds) of the missions that share the unit; lower ranks yield to this one."""
    own = rank_of(found.missions[_KEY], found.priorities)
    for key, plan in found.current_plans.items():
        if key != _KEY and rank_of(found.missions[key], found.priorities) <= own:
            rate = parse(RATE, found.missions[key].spec.demand.rate)
            yield from ((rate, p.compute.value) for p in plan.partitions if (p.node, p.unit) == unit)


def _serve(arrivals: Times, services: Times, others: list[tuple[float, float]], chance: np.random.Generator) -> Times:
    """Return the departure times from a single FCFS server shared with `others`: (requests/s, service seconds)."""
    mine, until = np.arange(arrivals.size), float(arrivals.max())
    events = [(arrivals, services, mine)]
    for rate, seconds in others:
        count = chance.poisson(rate * until)
        events.append((chance.uniform(0, until, count), np.full(count, seconds), np.full(count, -1)))
    at, taken, whose = (np.concatenate([event[i] for event in events]) for i in range(3))
    left, free = np.empty(arrivals.size), 0.0
    for i in np.argsort(at, kind="stable"):
        free = max(free, at[i]) + taken[i]
        if whose[i] >= 0:
            left[whose[i]] = free
    return left


def main() -> None:
    chance, noise = Random(3), np.random.default_rng(3)
    within, pairs, won, waited = list[float](), 0, 0, 0
    for _ in range(_INSTANCES):
        found = one_mission(chance, blocks=10, nodes=4)
        found = replace(found, current_plans={key: plan for key, plan in found.current_plans.items() if key != _KEY})
        plans = list(by_mode(found, _KEY).values())
        limit = found.missions[_KEY].spec.objectives.latency
        share = limit.percentile / 100 if limit is not None else 0.95
        times = [simulate(found, plan, noise) for plan in plans]
        within += [float((t <= plan.latency.value).mean()) - share for t, plan in zip(times, plans, strict=True)]
        waited += sum(any(p.wait.value for p in plan.partitions) for plan in plans)
        tails = [float(np.quantile(t, share)) for t in times]
        for one, other in permutations(range(len(plans)), 2):
            if plans[one].latency.value < (1 - _CLEAR) * plans[other].latency.value:
                pairs += 1
                won += tails[one] < tails[other]
    ranked = sorted(within)
    rows = [
        {
            "plans": len(within),
            "of_them_waiting": waited,
            "within_promise_minus_percentile_p5": round(ranked[round(0.05 * (len(ranked) - 1))], 4),
            "p50": round(median(ranked), 4),
            "worst": round(ranked[0], 4),
            "pairs": pairs,
            "quicker_is_quicker": won,
        }
    ]
    report("truth", rows, baseline="the planner's prediction, in a simulation (Simulated)")


if __name__ == "__main__":
    main()
