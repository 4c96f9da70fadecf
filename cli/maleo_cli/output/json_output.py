"""What `maleo plan -o json` says: the stable form of verdicts. Its schema is docs/reference/plan.schema.json.

SI units throughout: seconds, joules, bytes, shares of one, requests a second. null: unknown, or not asked for. Fields
are added, never renamed or removed.
"""

from collections.abc import Mapping
from math import isfinite
from statistics import NormalDist
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from maleo_api.meta import Basis
from maleo_api.mission import Mission, Mode
from maleo_planner import (
    Blocker,
    Explanation,
    Feasible,
    Figure,
    FleetPlan,
    Frontier,
    Plan,
    PlannedPartition,
    PlannedTransfer,
    Retry,
    Verdict,
)

_P95: Final = NormalDist().inv_cdf(0.95)
_ORDER: Final = ("latency", "energy", "accuracy")

Letters = Annotated[
    dict[Literal["accuracy", "latency", "energy"], float],
    Meta(description="signed distance to the limit, relative; only of objectives that the mission has"),
]


class Known(Struct):
    """A figure, where it comes from, and what it follows from."""

    value: float
    basis: Basis
    source: str


class Latency(Struct):
    """End to end at the entry. tail: at the objective's `percentile` (95 without one), as limits are judged by."""

    mean: float
    p95: float
    tail: float
    percentile: int
    basis: Basis
    source: str


class Predicted(Struct):
    """energy: of one request, what the mission adds; rate: the largest that is sustained."""

    latency: Latency
    energy: Known | None
    accuracy: Known | None
    rate: Known


class Partition(Struct):
    """span: first and last block; compute: mean, sigma its deviation; wait: behind requests of other missions."""

    span: Annotated[list[int], Meta(min_length=2, max_length=2)]
    node: str
    unit: str
    memory: float
    compute: Known
    sigma: float
    wait: Known
    energy: Known | None


class Transfer(Struct, rename={"source": "from", "target": "to"}):
    """size: bytes of one request there; time: with its answer back."""

    source: str
    target: str
    size: float
    link: str
    codec: Annotated[str | None, Meta(description="form in which the cut is crossed; null: as it is")]
    time: Known
    sigma: float
    energy: Known | None


class Switched(Struct):
    """What a change to the plan takes from what the mission holds: bytes to pull, bytes beside the old plan's."""

    pull: float
    time: Known
    memory: float


class Planned(Struct):
    """One plan."""

    mode: Mode
    variant: str
    exit: str | None
    partitions: list[Partition]
    transfers: list[Transfer]
    fallback: Annotated[str | None, Meta(description="variant that the entry keeps for when a partner is lost")]
    predicted: Predicted
    margins: Letters
    terms: Annotated[dict[str, float], Meta(description="what the objective is the sum of, by letter")]
    objective: float | None
    switching: Switched | None


class Block(Struct):
    """Why there is no plan. CannotEver: nor would there be on an empty, cool and complete fleet."""

    code: str
    retry: Retry
    message: str


class Relaxed(Struct):
    """The least change of one letter that would do, verified; changes: path below spec -> value."""

    letter: str
    change: str
    changes: dict[str, str | list[str]]


class Reject(Struct):
    """What was not taken; margin as text; example: one of them, and what it needs where something is missing."""

    candidate: str
    count: int
    code: str
    margin: str
    example: str


class Other(Struct):
    """The best of another mode; feasible without blockers. lacks: by term, how much more the chosen plan has."""

    mode: Mode
    plan: Planned | None
    lacks: dict[str, float]
    blockers: list[Block]
    would_do: Annotated[list[dict[str, str | list[str]]], Meta(description="each the least change of one letter")]


class Class(Struct):
    """Units of a profile that came to the same with a variant: an objective, or a code with a margin."""

    unit: str
    variant: str
    count: int
    code: str | None
    margin: float | None
    objective: float | None
    example: str


class Explained(Struct):
    """With --explain. displaced: missions whose held plan must give way to this one.

    better: what this mission would get by itself, where its tier, planned together, gave it less.
    """

    alternatives: list[Other]
    classes: list[Class]
    displaced: list[str]
    better: Planned | None


class Answer(Struct, omit_defaults=True):
    """One mission. Where it is not feasible the plan is the least bad one, or all of it is null."""

    feasible: bool
    mode: Mode | None
    variant: str | None
    exit: str | None
    partitions: list[Partition]
    transfers: list[Transfer]
    fallback: str | None
    predicted: Predicted | None
    margins: Letters
    terms: dict[str, float]
    switching: Switched | None
    objective: float | None
    bound: Annotated[
        float | None,
        Meta(description="no plan in up to four parts has a higher objective; null, as gap is, where none is known"),
    ]
    gap: float | None
    blockers: list[Block]
    relaxations: list[Relaxed]
    rejected: list[Reject]
    explanation: Explained | None = None
    frontier: Annotated[list[Planned] | None, Meta(description="with --frontier: plans that no other beats")] = None
    frontier_is_whole: Annotated[
        bool | None, Meta(description="with --frontier; false: the search was cut short, there may be more or better")
    ] = None


class TierAnswer(Struct):
    """served: missions; no other plans of the tier reach a value above the bound."""

    served: int
    value: float | None
    bound: float | None
    gap: float | None


class Before(Struct):
    """What a mission would have without what is supposed; where it is not feasible the least bad plan, or null."""

    feasible: bool
    plan: Planned | None


class Answers(Struct, omit_defaults=True):
    """All missions by `namespace/name`, and tiers by criticality."""

    missions: dict[str, Answer]
    tiers: dict[str, TierAnswer]
    changed: Annotated[
        dict[str, Before] | None,
        Meta(description="where something is supposed: missions whose mode, nodes, cut or objective differ by it"),
    ] = None


def schema() -> dict[str, Any]:
    """JSON Schema of the whole answer."""
    return msgspec.json.schema(Answers)


def answer_all(
    missions: Mapping[str, Mission],
    fleet: FleetPlan,
    explanations: Mapping[str, Explanation],
    frontiers: Mapping[str, Frontier],
    changed: Mapping[str, Verdict] | None = None,
) -> dict[str, Any]:
    """As plain values, to be written as JSON or YAML. changed: missions -> what they had before."""
    found = {
        key: answer(missions[key], verdict, explanations.get(key), frontiers.get(key))
        for key, verdict in sorted(fleet.verdicts.items())
    }
    tiers = {
        name: TierAnswer(tier.served, _finite(tier.value), _finite(tier.bound), _finite(tier.gap))
        for name, tier in fleet.tiers.items()
    }
    before = None if changed is None else {key: _before(missions[key], verdict) for key, verdict in changed.items()}
    plain: dict[str, Any] = msgspec.to_builtins(Answers(found, tiers, before))
    return plain


def describe(mission: Mission, verdict: Verdict) -> dict[str, Any]:
    """One mission's answer as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(answer(mission, verdict))
    return plain


def answer(
    mission: Mission,
    verdict: Verdict,
    explanation: Explanation | None = None,
    frontier: Frontier | None = None,
) -> Answer:
    chosen = verdict.chosen
    told = _planned(mission, chosen) if chosen else None
    bound = _finite(verdict.bound) if isinstance(verdict, Feasible) else None
    blockers, relaxations = ((), ()) if isinstance(verdict, Feasible) else (verdict.blockers, verdict.relaxations)
    return Answer(
        feasible=isinstance(verdict, Feasible),
        mode=told.mode if told else None,
        variant=told.variant if told else None,
        exit=told.exit if told else None,
        partitions=told.partitions if told else [],
        transfers=told.transfers if told else [],
        fallback=told.fallback if told else None,
        predicted=told.predicted if told else None,
        margins=told.margins if told else {},
        terms=told.terms if told else {},
        switching=told.switching if told else None,
        objective=told.objective if told else None,
        bound=bound,
        gap=_finite(bound - chosen.objective) if bound is not None and chosen else None,
        blockers=[_block(blocker) for blocker in blockers],
        relaxations=[Relaxed(r.letter, r.change, dict(r.changes)) for r in relaxations],
        rejected=[Reject(r.candidate, r.count, r.code, r.margin, r.example) for r in verdict.rejected],
        explanation=_explained(mission, explanation) if explanation else None,
        frontier=None if frontier is None else [_planned(mission, plan) for plan in frontier.plans],
        frontier_is_whole=None if frontier is None else frontier.is_whole,
    )


def _before(mission: Mission, verdict: Verdict) -> Before:
    chosen = verdict.chosen
    return Before(isinstance(verdict, Feasible), _planned(mission, chosen) if chosen else None)


def _planned(mission: Mission, plan: Plan) -> Planned:
    latency = mission.spec.objectives.latency
    mean = plan.latency_mean
    return Planned(
        mode=plan.mode,
        variant=plan.variant,
        exit=plan.exit or None,
        partitions=[_partition(part) for part in plan.partitions],
        transfers=[_transfer(transfer) for transfer in plan.transfers],
        fallback=plan.fallback.variant if plan.fallback else None,
        predicted=Predicted(
            latency=Latency(
                mean=mean.value,
                p95=mean.value + _P95 * mean.sigma,
                tail=plan.latency.value,
                percentile=latency.percentile if latency else 95,
                basis=plan.latency.basis,
                source=plan.latency.source,
            ),
            energy=_known(plan.energy),
            accuracy=_known(plan.accuracy),
            rate=Known(plan.rate.value, plan.rate.basis, plan.rate.source),
        ),
        margins={name: plan.margins[name] for name in _ORDER if name in plan.margins},
        terms={name: value for name, value in plan.terms.items() if isfinite(value)},
        objective=_finite(plan.objective),
        switching=_switching(plan),
    )


def _switching(plan: Plan) -> Switched | None:
    if plan.switching is None:
        return None
    time = plan.switching.time
    return Switched(plan.switching.pull, Known(time.value, time.basis, time.source), plan.switching.memory)


def _partition(part: PlannedPartition) -> Partition:
    return Partition(
        span=[part.first, part.last],
        node=part.node,
        unit=part.unit,
        memory=part.memory,
        compute=Known(part.compute.value, part.compute.basis, part.compute.source),
        sigma=part.compute.sigma,
        wait=Known(part.wait.value, part.wait.basis, part.wait.source),
        energy=_known(part.energy),
    )


def _transfer(transfer: PlannedTransfer) -> Transfer:
    return Transfer(
        source=transfer.source,
        target=transfer.target,
        size=transfer.size,
        link=transfer.link,
        codec=transfer.codec or None,
        time=Known(transfer.time.value, transfer.time.basis, transfer.time.source),
        sigma=transfer.time.sigma,
        energy=_known(transfer.energy),
    )


def _explained(mission: Mission, explanation: Explanation) -> Explained:
    return Explained(
        alternatives=[
            Other(
                mode=other.mode,
                plan=_planned(mission, other.plan) if other.plan else None,
                lacks={name: value for name, value in other.lacks.items() if isfinite(value)},
                blockers=[_block(blocker) for blocker in other.blockers],
                would_do=[dict(changes) for changes in other.would_do],
            )
            for other in explanation.alternatives
        ],
        classes=[
            Class(row.unit, row.variant, row.count, row.code or None, row.margin, _finite(row.objective), row.example)
            for row in explanation.classes
        ],
        displaced=list(explanation.displaced),
        better=_planned(mission, explanation.better) if explanation.better else None,
    )


def _block(blocker: Blocker) -> Block:
    return Block(blocker.code, blocker.retry, blocker.message)


def _known(figure: Figure | None) -> Known | None:
    if figure is None or figure.basis is Basis.UNKNOWN:
        return None
    return Known(figure.value, figure.basis, figure.source)


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
