"""Relaxations of an infeasible mission: for each objective the smallest change that makes it feasible.

Each change is verified by planning the changed mission. The smallest change of a limit is the best value that can be
reached if only that limit is dropped, rounded to three digits; of `egress`, the fewest steps from Device over Site to
Any; of modes and variants, one more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final, Protocol

from maleo_api.accuracy_floor import find_reference_accuracy
from maleo_api.meta import Basis
from maleo_api.mission import Mission, Objectives
from maleo_api.model import Model
from maleo_api.quantities import DURATION, ENERGY, POWER, RATE, RATIO, UnitOfMeasure, parse, show
from maleo_planner.single.objective import Aim
from maleo_planner.single.rejections import MODES
from maleo_planner.types.problem import Estimate, Feasible, Infeasible, Plan, Relaxation, Snapshot, Verdict

Changes = Mapping[str, Any]
"""Field path below `spec` -> new value; None removes the field."""

_EGRESS_REACHES: Final = ("Device", "Site", "Any")
_TOLERANCE: Final = 1e-10  # relative; smaller than the tolerance of limits
_MAX_BISECTIONS: Final = 12
_SOFT: Final = {name: {f"objectives.{name}.enforcement": "Soft"} for name in ("accuracy", "energy")}
"""Changes for unknown values, which satisfy no Hard limit, however wide."""


class TrialPlanner(Protocol):
    """Function that plans one mission of a snapshot, without diagnosis or relaxations."""

    def __call__(self, snapshot: Snapshot, key: str, /, *, aim: Aim = ...) -> Verdict:
        """Return the verdict of mission `key`."""


def relax(
    snapshot: Snapshot, key: str, verdict: Infeasible, plan_trial: TrialPlanner, *, modes: bool = True
) -> tuple[Relaxation, ...]:
    """Return the relaxations of an infeasible verdict, first those of limits that the closest infeasible plan violates.

    If no single change makes the mission feasible, all limits that this plan violates are changed together.

    Args:
        snapshot: Snapshot that was planned.
        key: Mission.
        verdict: Its verdict.
        plan_trial: Plans a changed snapshot.
        modes: Whether an additional mode may be proposed.
    """
    trials = _Trials(snapshot, key, plan_trial)
    broken = _changes_to_match(trials, verdict.closest) if verdict.closest is not None else {}
    found = []
    for objective, proposals in _PROPOSALS.items():
        if objective == "modes" and not modes:
            continue
        options = [(changes, plan) for changes in proposals(trials) if (plan := trials.plan(changes)) is not None]
        if options:
            changes, plan = max(options, key=lambda option: option[1].objective)
            found.append(Relaxation(objective, changes, plan))
    if not found and broken:
        together = trials.plan(broken)
        found += [Relaxation("several", broken, together)] if together else []
    return tuple(sorted(found, key=lambda relaxation: not relaxation.changes.keys() & broken.keys()))


def _changes_to_match(trials: "_Trials", plan: Plan) -> dict[str, Any]:
    """Return the changes that move each Hard limit which the plan violates to the value of the plan."""
    mission, objectives, found = trials.mission, trials.objectives, dict[str, Any]()
    if objectives.accuracy is not None and objectives.accuracy.enforcement == "Hard":
        found |= (
            _limit_changes(trials, "accuracy", plan.accuracy)
            if plan.accuracy and trials.reference_accuracy
            else _SOFT["accuracy"]
        )
    if objectives.latency is not None and objectives.latency.enforcement == "Hard":
        found |= _limit_changes(trials, "latency", plan.latency)
    if objectives.energy is not None and objectives.energy.enforcement == "Hard":
        known = plan.energy.basis is not Basis.UNKNOWN
        found |= _limit_changes(trials, "energy", plan.energy) if known else _SOFT["energy"]
    slower = plan.rate.value < parse(RATE, mission.spec.demand.rate) * (1 - _TOLERANCE)
    return found | ({"demand.rate": show(RATE, plan.rate.value, rounding="down")} if slower else {})


@dataclass(frozen=True, slots=True)
class _Trials:
    """Trial planning of changed forms of an infeasible mission."""

    snapshot: Snapshot
    key: str
    plan_trial: TrialPlanner

    @property
    def mission(self) -> Mission:
        return self.snapshot.missions[self.key]

    @property
    def objectives(self) -> Objectives:
        return self.mission.spec.objectives

    @property
    def model(self) -> Model | None:
        return self.snapshot.models.get(self.mission.model_key)

    @property
    def reference_accuracy(self) -> float | None:
        """Return the accuracy that the floor is relative to: 1 without a floor, None if unknown."""
        return (
            find_reference_accuracy(self.objectives.accuracy, self.model)
            if self.objectives.accuracy is not None
            else 1.0
        )

    def sustains(self, rate: float) -> bool:
        """Return True if there is a plan at this rate (requests/s), rounded down to three digits."""
        return self.plan({"demand.rate": show(RATE, rate, rounding="down")}) is not None

    def plan(self, changes: Changes, **options: Aim) -> Plan | None:
        """Return the plan of the changed mission; None if it is infeasible."""
        changed = apply_changes(self.mission, changes)
        snapshot = replace(self.snapshot, missions={**self.snapshot.missions, self.key: changed})
        verdict = self.plan_trial(snapshot, self.key, **options)
        return verdict.plan if isinstance(verdict, Feasible) else None


def apply_changes(mission: Mission, changes: Changes) -> Mission:
    """Return the mission with a changed spec.

    Raises:
        pydantic.ValidationError: A value is invalid for its field.
    """
    body = mission.to_api()
    for path, value in changes.items():
        *parents, last = path.split(".")
        parent_field = body["spec"]
        for parent in parents:
            parent_field = parent_field.setdefault(parent, {})
        if value is None:
            parent_field.pop(last, None)
        else:
            parent_field[last] = value
    return Mission.model_validate(body)


# ------------------------------------------------------------------------------------------------ one objective each


def _relax_accuracy(trials: _Trials) -> Iterator[Changes]:
    """Yield the highest feasible accuracy floor.

    Start from a floor of 0% and raise it above the accuracy reached, until no better plan is found.
    """
    objective, path = trials.objectives.accuracy, "objectives.accuracy.atLeast"
    if objective is None or objective.enforcement == "Soft":
        return
    accuracy_only = {"preference": {"weights": {"accuracy": 100, "latency": 0, "energy": 0}}}
    best, reached, reference = None, -1.0, trials.reference_accuracy
    better = trials.plan({path: "0%"} | accuracy_only) if reference else None
    while reference and better is not None and better.accuracy is not None and better.accuracy.value > reached:
        best, reached = better, better.accuracy.value
        above = show(RATIO, reached / reference * (1 + 1e-9), digits=8, rounding="up")
        better = trials.plan({path: above} | accuracy_only)
    yield _limit_changes(trials, "accuracy", best.accuracy) if best and best.accuracy else _SOFT["accuracy"]


def _relax_latency(trials: _Trials) -> Iterator[Changes]:
    """Yield the lowest feasible latency limit."""
    objective = trials.objectives.latency
    if objective is not None and objective.enforcement == "Hard":
        best = trials.plan({"objectives.latency.enforcement": "Soft"}, aim="latency")
        yield from [_limit_changes(trials, "latency", best.latency)] if best else []


def _relax_energy(trials: _Trials) -> Iterator[Changes]:
    """Yield the lowest feasible energy limits, or enforcement Soft if the minimum energy is unknown."""
    objective = trials.objectives.energy
    if objective is not None and objective.enforcement == "Hard":
        best = trials.plan({"objectives.energy": None}, aim="energy")
        known = best is not None and best.energy.basis is not Basis.UNKNOWN
        yield _limit_changes(trials, "energy", best.energy) if best and known else _SOFT["energy"]


def _relax_rate(trials: _Trials) -> Iterator[Changes]:
    """Yield the highest feasible rate, if it is below the demanded one.

    Bisect below the maximum rate that any plan sustains: the joules per request that a power limit allows depend on the
    rate, so the maximum itself may violate limits. Codecs may sustain a higher rate, which is searched by doubling.
    """
    path, demanded = "demand.rate", parse(RATE, trials.mission.spec.demand.rate)
    fastest = trials.plan({path: "0/s"}, aim="rate")
    if fastest is None:
        return
    low, high = 0.0, fastest.rate.value
    if trials.sustains(high):
        low, high = high, 2 * high
        while _has_codecs(trials.model) and trials.sustains(high):
            low, high = high, 2 * high
    for _ in range(_MAX_BISECTIONS if low == 0 or _has_codecs(trials.model) else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if trials.sustains(middle) else (low, middle)
    text = show(RATE, low, rounding="down")
    if 0 < parse(RATE, text) < demanded:
        yield {path: text}


def _has_codecs(model: Model | None) -> bool:
    """Return True if a cut of the model offers codecs."""
    return model is not None and any(b.cut and b.cut.codecs for v in model.spec.variants for b in v.blocks)


def _relax_egress(trials: _Trials) -> Iterator[Changes]:
    """Yield the smallest feasible widening of `egress`.

    The fewest steps are tried first, features before the raw input, up to the first that is feasible.
    """
    egress = trials.mission.spec.egress
    current = tuple(_EGRESS_REACHES.index(reach) for reach in (egress.features, egress.input))
    wider = [
        target
        for target in product(range(len(_EGRESS_REACHES)), repeat=2)
        if target != current and all(map(int.__ge__, target, current))
    ]
    for target in (
        sorted(wider, key=lambda target: (sum(target), target[1]))
        if trials.plan(_egress_changes(trials, *current, widest=True))
        else ()
    ):
        changes = _egress_changes(trials, *target)
        if trials.plan(changes) is not None:
            yield changes
            return


def _egress_changes(trials: _Trials, features: int, raw: int, *, widest: bool = False) -> Changes:
    """Return the changes that set `egress` to these indices of `_EGRESS_REACHES`, or both to Any if `widest`."""
    wanted = {
        "egress.features": _EGRESS_REACHES[-1 if widest else features],
        "egress.input": _EGRESS_REACHES[-1 if widest else raw],
    }
    current = {"egress.features": trials.mission.spec.egress.features, "egress.input": trials.mission.spec.egress.input}
    return {path: value for path, value in wanted.items() if value != current[path]}


def _relax_modes(trials: _Trials) -> Iterator[Changes]:
    """Return the changes that add one mode."""
    modes = trials.mission.spec.modes
    return ({"modes": [*modes, mode]} for mode in MODES if mode not in modes)


def _relax_variants(trials: _Trials) -> Iterator[Changes]:
    """Yield the changes that add one variant of the model; names that the model does not have are dropped."""
    named, model = trials.mission.spec.model.variants, trials.model
    if model is not None and named and trials.plan({"model.variants": []}) is not None:
        available = [variant.name for variant in model.spec.variants]
        kept = [name for name in named if name in available]
        yield from ({"model.variants": [*kept, other]} for other in available if other not in kept)


_PROPOSALS: Final = {
    "accuracy": _relax_accuracy,
    "latency": _relax_latency,
    "energy": _relax_energy,
    "rate": _relax_rate,
    "egress": _relax_egress,
    "modes": _relax_modes,
    "model": _relax_variants,
}


# ------------------------------------------------------------------------------------------------ limits as texts


def _limit_changes(trials: _Trials, name: str, estimate: Estimate) -> dict[str, Any]:
    """Return the changes that move the limits of one objective which `estimate` violates to its value."""
    mission, objectives = trials.mission, trials.objectives
    if name == "accuracy" and objectives.accuracy is not None and trials.reference_accuracy:
        share = estimate.value / trials.reference_accuracy
        broken = share < parse(RATIO, objectives.accuracy.at_least) * (1 - _TOLERANCE)
        text = show(RATIO, share * (1 + _TOLERANCE), rounding="down")
        return {"objectives.accuracy.atLeast": text} if broken else {}
    if name == "latency" and objectives.latency is not None:
        limits = _raise_limits(DURATION, estimate.value, {"objectives.latency.atMost": objectives.latency.at_most})
        window = parse(DURATION, objectives.latency.window)
        if limits and estimate.value >= window:
            limits["objectives.latency.window"] = show(DURATION, 2 * estimate.value, rounding="up")
        return limits
    if objectives.energy is None:
        return {}
    rate = parse(RATE, mission.spec.demand.rate)
    joules, watts = objectives.energy.per_inference, objectives.energy.power
    return _raise_limits(ENERGY, estimate.value, {"objectives.energy.perInference": joules}) | _raise_limits(
        POWER, estimate.value * rate, {"objectives.energy.power": watts}
    )


def _raise_limits(unit: UnitOfMeasure, value: float, limits: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the changes that raise the limits below `value` to it, rounded up; a limit of None is absent."""
    return {
        path: show(unit, value * (1 - _TOLERANCE), rounding="up")
        for path, limit in limits.items()
        if limit is not None and value > parse(unit, limit) * (1 + _TOLERANCE)
    }
