"""The least change of a mission's objectives that would do, where nothing fits."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from maleo_api.mission import Mission
from maleo_api.quantities import DURATION, ENERGY, RATIO, show
from maleo_operator.planning.demand import Demand
from maleo_operator.planning.problem import Feasible, Plan, Relaxation, Snapshot, Verdict

_ROUND_UP: Final = 1.02  # a relaxation leaves room for its own rounding


def relax(
    snapshot: Snapshot, key: str, least_bad: Plan, decide: Callable[[Snapshot, str], Verdict]
) -> Iterable[Relaxation]:
    """Per objective the least change that would do alone, each verified by planning again with it."""
    mission = snapshot.missions[key]
    for name, field, text in _proposals(Demand.of(mission), least_bad):
        relaxed = _with_objective(mission, name, field, text)
        verdict = decide(replace(snapshot, missions={**snapshot.missions, key: relaxed}), key)
        if isinstance(verdict, Feasible):
            yield Relaxation(name, f"objectives.{name}.{field}: {text}", verdict.plan)


def _proposals(demand: Demand, least_bad: Plan) -> Iterable[tuple[str, str, str]]:
    latency, energy, accuracy = demand.latency, demand.energy, demand.accuracy
    stated = demand.mission.spec.objectives.energy
    if latency is not None and least_bad.latency.value > latency.value:
        yield "latency", "atMost", show(DURATION, least_bad.latency.value * _ROUND_UP)
    over = energy is not None and least_bad.energy.value > energy.value
    if over and stated is not None and stated.per_inference is not None:
        yield "energy", "perInference", show(ENERGY, least_bad.energy.value * _ROUND_UP)
    if accuracy is not None and least_bad.accuracy is not None and least_bad.accuracy.value < accuracy.value:
        yield "accuracy", "atLeast", show(RATIO, least_bad.accuracy.value / _ROUND_UP)


def _with_objective(mission: Mission, name: str, field: str, text: str) -> Mission:
    changed: dict[str, Any] = mission.to_api()
    changed["spec"]["objectives"][name][field] = text
    return Mission.model_validate(changed)
