"""Relaxations of an infeasible mission: per objective the smallest change that makes it feasible.

Each change is verified by planning again with it. The smallest change of a limit is the best value that can be reached
when that limit alone is dropped, rounded to three digits; of `egress`, the fewest steps from Device over Site to Any;
of modes and variants, one more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final, Protocol

from maleo_api.meta import Basis
from maleo_api.mission import Mission, Objectives
from maleo_api.model import Model
from maleo_api.quantities import DURATION, ENERGY, POWER, RATE, RATIO, Unit, parse, show
from maleo_planner.single.objective import Aim
from maleo_planner.single.rejections import MODES
from maleo_planner.types.accuracy_floor import find_whole
from maleo_planner.types.problem import Feasible, Figure, Infeasible, Plan, Relaxation, Snapshot, Verdict

Changes = Mapping[str, Any]
"""Field path below `spec` -> new value; None removes the field."""

_REACHES: Final = ("Device", "Site", "Any")
_NOISE: Final = 1e-10  # relative; smaller than the tolerance with which limits are compared
_HALVINGS: Final = 12
_SOFT: Final = {name: {f"objectives.{name}.enforcement": "Soft"} for name in ("accuracy", "energy")}
"""Changes for unknown figures: an unknown figure satisfies no Hard limit, however wide."""


class Decide(Protocol):
    """Function that plans one mission of a snapshot, without diagnosis or relaxations."""

    def __call__(self, snapshot: Snapshot, key: str, /, *, aim: Aim = ...) -> Verdict: ...


def relax(
    snapshot: Snapshot, key: str, verdict: Infeasible, decide: Decide, *, modes: bool = True
) -> tuple[Relaxation, ...]:
    """Return the relaxations of an infeasible verdict, those of limits that the closest infeasible plan breaks first.

    If no single change makes the mission feasible: all limits that this plan breaks, changed together.

    modes: whether an additional mode may be proposed.
    """
    ask = _Question(snapshot, key, decide)
    broken = _limits_of(ask, verdict.least_bad) if verdict.least_bad is not None else {}
    found = []
    for letter, proposals in _LETTERS.items():
        if letter == "modes" and not modes:
            continue
        options = [(changes, plan) for changes in proposals(ask) if (plan := ask.plan(changes)) is not None]
        if options:
            changes, plan = max(options, key=lambda option: option[1].objective)
            found.append(Relaxation(letter, changes, plan))
    if not found and broken:
        together = ask.plan(broken)
        found += [Relaxation("several", broken, together)] if together else []
    return tuple(sorted(found, key=lambda relaxation: not relaxation.changes.keys() & broken.keys()))


def _limits_of(ask: "_Question", plan: Plan) -> dict[str, Any]:
    """Return the changes that move each Hard limit which the plan breaks to the value that the plan reaches."""
    mission, objectives, found = ask.mission, ask.objectives, dict[str, Any]()
    if objectives.accuracy is not None and objectives.accuracy.enforcement == "Hard":
        found |= _moved(ask, "accuracy", plan.accuracy) if plan.accuracy and ask.whole else _SOFT["accuracy"]
    if objectives.latency is not None and objectives.latency.enforcement == "Hard":
        found |= _moved(ask, "latency", plan.latency)
    if objectives.energy is not None and objectives.energy.enforcement == "Hard":
        known = plan.energy.basis is not Basis.UNKNOWN
        found |= _moved(ask, "energy", plan.energy) if known else _SOFT["energy"]
    slower = plan.rate.value < parse(RATE, mission.spec.demand.rate) * (1 - _NOISE)
    return found | ({"demand.rate": show(RATE, plan.rate.value, rounding="down")} if slower else {})


@dataclass(frozen=True, slots=True)
class _Question:
    """The infeasible mission, with the means to plan changed forms of it."""

    snapshot: Snapshot
    key: str
    decide: Decide

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
    def whole(self) -> float | None:
        """Return the accuracy that the floor is relative to, 1 if the mission has no floor; None if it is unknown."""
        return find_whole(self.objectives.accuracy, self.model) if self.objectives.accuracy is not None else 1.0

    def sustains(self, rate: float) -> bool:
        """Return True if there is a plan at this rate in requests per second, rounded down to three digits."""
        return self.plan({"demand.rate": show(RATE, rate, rounding="down")}) is not None

    def plan(self, changes: Changes, **options: Aim) -> Plan | None:
        """Return the plan of the changed mission; None if it is infeasible."""
        changed = change(self.mission, changes)
        snapshot = replace(self.snapshot, missions={**self.snapshot.missions, self.key: changed})
        verdict = self.decide(snapshot, self.key, **options)
        return verdict.plan if isinstance(verdict, Feasible) else None


def change(mission: Mission, changes: Changes) -> Mission:
    """Return the mission with a changed spec. Raise `pydantic.ValidationError` if a value is invalid for its field."""
    body = mission.to_api()
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = body["spec"]
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return Mission.model_validate(body)


# ------------------------------------------------------------------------------------------------ one objective each


def _accuracy(ask: _Question) -> Iterator[Changes]:
    """Yield the highest feasible accuracy floor.

    Start from a floor of 0% and raise it above what was reached, until no better plan is found.
    """
    objective, path = ask.objectives.accuracy, "objectives.accuracy.atLeast"
    if objective is None or objective.enforcement == "Soft":
        return
    first = {"preference": {"weights": {"accuracy": 100, "latency": 0, "energy": 0}}}
    best, reached, whole = None, -1.0, ask.whole
    better = ask.plan({path: "0%"} | first) if whole else None
    while whole and better is not None and better.accuracy is not None and better.accuracy.value > reached:
        best, reached = better, better.accuracy.value
        above = show(RATIO, reached / whole * (1 + 1e-9), digits=8, rounding="up")
        better = ask.plan({path: above} | first)
    yield _moved(ask, "accuracy", best.accuracy) if best and best.accuracy else _SOFT["accuracy"]


def _latency(ask: _Question) -> Iterator[Changes]:
    """Yield the lowest feasible latency limits."""
    objective = ask.objectives.latency
    if objective is not None and objective.enforcement == "Hard":
        best = ask.plan({"objectives.latency.enforcement": "Soft"}, aim="latency")
        yield from [_moved(ask, "latency", best.latency)] if best else []


def _energy(ask: _Question) -> Iterator[Changes]:
    """Yield the lowest feasible energy limits; enforcement Soft if the best energy is unknown."""
    objective = ask.objectives.energy
    if objective is not None and objective.enforcement == "Hard":
        best = ask.plan({"objectives.energy": None}, aim="energy")
        known = best is not None and best.energy.basis is not Basis.UNKNOWN
        yield _moved(ask, "energy", best.energy) if best and known else _SOFT["energy"]


def _rate(ask: _Question) -> Iterator[Changes]:
    """Yield the highest feasible rate, if it is below the demanded one.

    Bisect below the highest rate that any plan sustains: the joules that a power limit leaves per request depend on the
    rate, so the highest rate itself may break limits. With codecs a higher rate may be sustained; it is looked for by
    doubling.
    """
    path, asked = "demand.rate", parse(RATE, ask.mission.spec.demand.rate)
    quickest = ask.plan({path: "0/s"}, aim="rate")
    if quickest is None:
        return
    least, most = 0.0, quickest.rate.value
    if ask.sustains(most):
        least, most = most, 2 * most
        while _has_codecs(ask.model) and ask.sustains(most):
            least, most = most, 2 * most
    for _ in range(_HALVINGS if least == 0 or _has_codecs(ask.model) else 0):
        middle = (least + most) / 2
        least, most = (middle, most) if ask.sustains(middle) else (least, middle)
    text = show(RATE, least, rounding="down")
    if 0 < parse(RATE, text) < asked:
        yield {path: text}


def _has_codecs(model: Model | None) -> bool:
    """Return True if a cut of the model offers codecs."""
    return model is not None and any(b.cut and b.cut.codecs for v in model.spec.variants for b in v.blocks)


def _egress(ask: _Question) -> Iterator[Changes]:
    """Yield the smallest feasible widening of `egress`.

    Try the fewest steps first, features before the raw input, and stop at the first that is feasible.
    """
    egress = ask.mission.spec.egress
    now = tuple(_REACHES.index(reach) for reach in (egress.features, egress.input))
    wider = [to for to in product(range(len(_REACHES)), repeat=2) if to != now and all(map(int.__ge__, to, now))]
    for to in sorted(wider, key=lambda to: (sum(to), to[1])) if ask.plan(_reach(ask, *now, widest=True)) else ():
        changes = _reach(ask, *to)
        if ask.plan(changes) is not None:
            yield changes
            return


def _reach(ask: _Question, features: int, raw: int, *, widest: bool = False) -> Changes:
    """Return the changes that set `egress` to these indices of `_REACHES`; with `widest`, both to Any."""
    to = {"egress.features": _REACHES[-1 if widest else features], "egress.input": _REACHES[-1 if widest else raw]}
    now = {"egress.features": ask.mission.spec.egress.features, "egress.input": ask.mission.spec.egress.input}
    return {path: value for path, value in to.items() if value != now[path]}


def _modes(ask: _Question) -> Iterator[Changes]:
    """Return the changes that add one mode."""
    modes = ask.mission.spec.modes
    return ({"modes": [*modes, mode]} for mode in MODES if mode not in modes)


def _variants(ask: _Question) -> Iterator[Changes]:
    """Yield the changes that add one variant of the model; names that the model does not have are dropped."""
    named, model = ask.mission.spec.model.variants, ask.model
    if model is not None and named and ask.plan({"model.variants": []}) is not None:
        there = [variant.name for variant in model.spec.variants]
        kept = [name for name in named if name in there]
        yield from ({"model.variants": [*kept, other]} for other in there if other not in kept)


_LETTERS: Final = {
    "accuracy": _accuracy,
    "latency": _latency,
    "energy": _energy,
    "rate": _rate,
    "egress": _egress,
    "modes": _modes,
    "model": _variants,
}


# ------------------------------------------------------------------------------------------------ limits as texts


def _moved(ask: _Question, name: str, figure: Figure) -> dict[str, Any]:
    """Return the changes that move the limits of one objective which `figure` breaks to that figure."""
    mission, objectives = ask.mission, ask.objectives
    if name == "accuracy" and objectives.accuracy is not None and ask.whole:
        share = figure.value / ask.whole
        broken = share < parse(RATIO, objectives.accuracy.at_least) * (1 - _NOISE)
        text = show(RATIO, share * (1 + _NOISE), rounding="down")
        return {"objectives.accuracy.atLeast": text} if broken else {}
    if name == "latency" and objectives.latency is not None:
        limits = _raised(DURATION, figure.value, {"objectives.latency.atMost": objectives.latency.at_most})
        window = parse(DURATION, objectives.latency.window)
        if limits and figure.value >= window:
            limits["objectives.latency.window"] = show(DURATION, 2 * figure.value, rounding="up")
        return limits
    if objectives.energy is None:
        return {}
    rate = parse(RATE, mission.spec.demand.rate)
    joules, watts = objectives.energy.per_inference, objectives.energy.power
    return _raised(ENERGY, figure.value, {"objectives.energy.perInference": joules}) | _raised(
        POWER, figure.value * rate, {"objectives.energy.power": watts}
    )


def _raised(unit: Unit, value: float, limits: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the changes that raise the limits below `value` to it, rounded up; None is no limit."""
    return {
        path: show(unit, value * (1 - _NOISE), rounding="up")
        for path, limit in limits.items()
        if limit is not None and value > parse(unit, limit) * (1 + _NOISE)
    }
