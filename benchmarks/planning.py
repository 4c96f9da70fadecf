"""Planning of one mission: CPU time and gap by size, against HiGHS, and against common placement heuristics.

`python benchmarks/planning.py [one] [budget] [highs] [rules]`; all without arguments. Times are CPU seconds, so that
other load on the machine has little influence.
"""

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from random import Random
from statistics import mean, median
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import scipy.optimize
from measure import report
from problems import KEY, Scarcity, one
from rules import RULES

from maleo_planner import planner
from maleo_planner.planner import add_advice, decide, plan
from maleo_planner.single.objective import Aim
from maleo_planner.single.scope_graphs import SearchScope
from maleo_planner.types.problem import Feasible, Snapshot, Verdict
from maleo_planner.types.work_budget import DEFAULT_ADVICE_WORK, DEFAULT_PLAN_WORK, Budget
from support.oracle.milp import Optimum, Program, best
from support.oracle.model import places_of, read
from support.planner.adversarial import SHAPES, make
from support.planner.builders import KEY as KEY_OF_SHAPES
from support.planner.generators import every_kind, one_mission

_LEVELS: tuple[Scarcity, ...] = ("ample", "moderate", "scarce")
Params = ParamSpec("Params")
Result = TypeVar("Result")


def _timed(run: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> tuple[float, Result]:
    start = time.process_time()
    done = run(*args, **kwargs)
    return time.process_time() - start, done


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return {
        f"{name}_ms": round(value * 1e3, 2)
        for name, value in (("p50", median(ordered)), ("p95", at95), ("max", ordered[-1]))
    }


def _gap(verdict: Verdict) -> float:
    return verdict.bound - verdict.plan.objective if isinstance(verdict, Feasible) else 0.0


# ------------------------------------------------------------------------------------------------ one mission


def time_one() -> None:
    """Measure planning time and gap by blocks, devices, partitions and scarcity."""
    rows = [_time_size(b, d, 4, "moderate", n) for b, d, n in _SIZES]
    rows += [_time_size(100, 10, k, "moderate", 60) for k in (2, 3)]
    rows += [_time_size(100, 10, 4, level, 60) for level in _LEVELS if level != "moderate"]
    rows.append(_time_size(256, 20, 4, "scarce", 12))
    report("planning-one", rows, baseline="none: milliseconds per plan, including its index")


_SIZES = ((16, 5, 40), (50, 5, 40), (50, 10, 40), (100, 10, 60), (256, 20, 20), (400, 50, 10))


def _time_size(blocks: int, devices: int, partitions: int, scarcity: Scarcity, count: int) -> dict[str, Any]:
    chance, seconds, gaps, max_used = Random(blocks * 1000 + devices), list[float](), list[float](), 0
    for _ in range(count):
        found = one(chance, blocks=blocks, nodes=devices, scarcity=scarcity)
        with patch.object(planner, "SearchScope", partial(SearchScope, max_partitions=partitions)):
            took, verdict = _timed(plan, found, KEY)
        seconds.append(took)
        gaps.append(_gap(verdict))
        max_used = max(max_used, len(verdict.plan.partitions) if isinstance(verdict, Feasible) else 0)
    size = {"blocks": blocks, "devices": devices, "most_partitions": partitions, "scarcity": scarcity, "of": count}
    proven = sum(gap <= 1e-9 for gap in gaps)
    return size | _spread(seconds) | {"most_used": max_used, "proven": proven, "worst_gap": round(max(gaps), 4)}


# ------------------------------------------------------------------------------------------------ HiGHS


def compare_highs() -> None:
    """Compare with HiGHS on the same instances: small ones with every feature, and larger plain ones.

    Plans are made without advice for infeasible missions. equal: objectives within 1e-7, or both infeasible.
    """
    rows = []
    for draw, blocks, nodes, count in (
        *((every_kind, blocks, 4, 60) for blocks in (3, 6)),
        *((one_mission, *size) for size in ((6, 4, 40), (10, 5, 40), (18, 5, 20), (24, 6, 10))),
    ):
        chance, own, theirs, equal, feasible = Random(blocks), list[float](), list[float](), 0, 0
        for _ in range(count):
            found = draw(chance, blocks=blocks, nodes=nodes)
            took, verdict = _timed(decide, found, KEY_OF_TESTS)
            longer, optimum = _solve(found)
            own.append(took)
            theirs.append(longer)
            feasible += optimum is not None
            if isinstance(verdict, Feasible) and optimum is not None:
                equal += abs(verdict.plan.objective - optimum.objective) <= 1e-7
            else:
                equal += not isinstance(verdict, Feasible) and optimum is None
        rows.append(
            {
                "drawn": draw.__name__,
                "blocks": blocks,
                "nodes": nodes,
                "of": count,
                "feasible": feasible,
                "equal": equal,
            }
            | _spread(own)
            | {"highs_p50_ms": round(median(theirs) * 1e3, 1), "ratio": round(median(own) / median(theirs), 3)}
        )
    report("planning-highs", rows, baseline="CPU seconds inside HiGHS for an independent model of the same instances")


KEY_OF_TESTS = "default/watch"


def _solve(found: Snapshot) -> tuple[float, Optimum | None]:
    """Return the CPU seconds inside HiGHS, without building its model, and the optimum."""
    seconds = []

    def solve(*args: Any, **kwargs: Any) -> Any:
        took, done = _timed(scipy.optimize.milp, *args, **kwargs)
        seconds.append(took)
        return done

    with patch("milp.milp", solve):
        optimum = best(found, KEY_OF_TESTS)
    return sum(seconds), optimum


# ------------------------------------------------------------------------------------------------ rules


def compare_rules() -> None:
    """Compare heuristics with the planner by the tests' independent model: missions served, objective and energy."""
    rows = []
    for level in _LEVELS:
        chance = Random(11)
        problems = [one(chance, blocks=16, nodes=4, scarcity=level) for _ in range(40)]
        reached = {rule: [_judge(found, rule) for found in problems] for rule in ("maleo", *RULES)}
        # Objective and energy are means over the missions that the rule serves, against Maleo on the same missions.
        for rule, results in reached.items():
            pairs = [(r, m) for r, m in zip(results, reached["maleo"], strict=True) if r and m]
            row: dict[str, Any] = {
                "scarcity": level,
                "rule": rule,
                "served": sum(map(bool, results)),
                "of": len(results),
            }
            if pairs:
                row |= {
                    "objective": round(mean(r[0] for r, _ in pairs), 4),
                    "maleo_objective": round(mean(m[0] for _, m in pairs), 4),
                    "as_good": sum(r[0] >= m[0] - 1e-7 for r, m in pairs),
                    "energy_ratio": round(mean(r[1] for r, _ in pairs) / mean(m[1] for _, m in pairs), 3),
                }
            rows.append(row)
    report("planning-rules", rows, baseline="Maleo on the missions served by the rule")


def _judge(found: Snapshot, rule: str) -> tuple[float, float] | None:
    """Return (objective, joules), or None if the mission is not served within its limits."""
    program = Program(next(read(found, KEY)))
    if rule == "maleo":
        verdict = plan(found, KEY)
        places = places_of(verdict.plan, len(program.of.variant.blocks)) if isinstance(verdict, Feasible) else None
    else:
        places = RULES[rule](program)
    if places is None:
        return None
    kept, objective = program.judge(places)
    return (objective, program.figures(places)[1]) if kept else None


# ------------------------------------------------------------------------------------------------ work and time


_AIMS: tuple[Aim, ...] = ("margins", "rate")


def time_budget() -> None:
    """Measure plans of the largest models, some cut short by the budget: seconds, and nanoseconds per unit of work."""
    rows = [_time_shape(shape, aim) for shape in SHAPES for aim in _AIMS]
    report("planning-budget", rows, baseline="work units of the standard budget")


def _time_shape(shape: str, aim: Aim) -> dict[str, Any]:
    found, planning, advising = make(**SHAPES[shape]), Budget(), Budget(DEFAULT_ADVICE_WORK)
    took, verdict = _timed(decide, found, KEY_OF_SHAPES, aim=aim, budget=planning)
    more, _ = _timed(add_advice, found, KEY_OF_SHAPES, verdict, aim=aim, budget=advising)
    work, advice = DEFAULT_PLAN_WORK - planning.remaining, DEFAULT_ADVICE_WORK - advising.remaining
    return {
        "shape": shape,
        "aim": aim,
        "plan_s": round(took, 2),
        "advice_s": round(more, 2),
        "ns_a_unit": round((took + more) / (work + advice) * 1e9, 2),
        "ratio": round(work / DEFAULT_PLAN_WORK, 3),
        "proven": isinstance(verdict, Feasible) or verdict.is_proven,
    }


_PARTS = {
    "one": time_one,
    "budget": time_budget,
    "highs": compare_highs,
    "rules": compare_rules,
}


def main() -> None:
    for part in sys.argv[1:] or _PARTS:
        _PARTS[part]()
    print(f"peak resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
