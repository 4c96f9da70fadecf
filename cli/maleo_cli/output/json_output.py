"""JSON output of `maleo plan`: the stable form of verdicts, with the schema docs/reference/plan.schema.json.

All values are in SI units: seconds, joules, bytes, ratios, requests per second. null: unknown or not requested. Fields
may be added, but are never renamed or removed.
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
    Estimate,
    Explanation,
    Feasible,
    FleetPlan,
    ParetoFront,
    Plan,
    PlannedPartition,
    PlannedTransfer,
    Retry,
    Verdict,
)

_P95: Final = NormalDist().inv_cdf(0.95)
_ORDER: Final = ("latency", "energy", "accuracy")

MarginRatios = Annotated[
    dict[Literal["accuracy", "latency", "energy"], float],
    Meta(description="signed distance to the limit as a ratio; only for objectives of the mission"),
]


class Known(Struct):
    """Value with its basis (how it is known) and its source."""

    value: float
    basis: Basis
    source: str


class Latency(Struct):
    """End-to-end latency. tail: latency at the `percentile` of the objective (default 95), compared with the limit."""

    mean: float
    p95: float
    tail: float
    percentile: int
    basis: Basis
    source: str


class Predicted(Struct):
    """Predictions. energy: marginal energy of one request; rate: maximum sustained rate."""

    latency: Latency
    energy: Known | None
    accuracy: Known | None
    rate: Known


class Partition(Struct):
    """Partition of a model. span: first and last block; sigma: standard deviation of compute; wait: queueing delay."""

    span: Annotated[list[int], Meta(min_length=2, max_length=2)]
    node: str
    unit: str
    memory: float
    compute: Known
    sigma: float
    wait: Known
    energy: Known | None


class Transfer(Struct, rename={"source": "from", "target": "to"}):
    """Transfer between nodes. size: request bytes to the target; time: round trip, including the answer."""

    source: str
    target: str
    size: float
    link: str
    codec: Annotated[str | None, Meta(description="codec of the tensors at the cut; null: not encoded")]
    time: Known
    sigma: float
    energy: Known | None


class Switched(Struct):
    """Migration cost from the current plan. pull: bytes to pull; memory: bytes on top of the current plan."""

    pull: float
    time: Known
    memory: float


class Planned(Struct):
    """Plan of a mission."""

    mode: Mode
    variant: str
    exit: str | None
    partitions: list[Partition]
    transfers: list[Transfer]
    fallback: Annotated[
        str | None, Meta(description="variant that the entry serves if another node of the plan is lost")
    ]
    predicted: Predicted
    margins: MarginRatios
    terms: Annotated[dict[str, float], Meta(description="terms whose sum is the objective")]
    objective: float | None
    switching: Switched | None


class Block(Struct):
    """Reason for having no plan. CannotEver: there is none even if all nodes are idle, unthrottled and ready."""

    code: str
    retry: Retry
    message: str


class Relaxed(Struct):
    """Smallest change of one objective that makes the mission feasible, verified. changes: path below spec -> value."""

    objective: str
    change: str
    changes: dict[str, str | list[str]]


class Reject(Struct):
    """Rejected candidates with the same code. margin: text; example: one of them, with what it requires."""

    candidate: str
    count: int
    code: str
    margin: str
    example: str


class Other(Struct):
    """Best plan of another mode; feasible if `blockers` is empty. lacks: chosen plan's terms minus its own."""

    mode: Mode
    plan: Planned | None
    lacks: dict[str, float]
    blockers: list[Block]
    suggested_changes: Annotated[
        list[dict[str, str | list[str]]],
        Meta(description="smallest changes of one objective that make the mode feasible"),
    ]


class Class(Struct):
    """Units of a profile with the same result for a variant: an objective, or a rejection code with a margin."""

    unit: str
    variant: str
    count: int
    code: str | None
    margin: float | None
    objective: float | None
    example: str


class Explained(Struct):
    """Explanation, with --explain. displaced: missions of a lower tier that this plan preempts.

    better: plan that this mission would get on its own, if the joint plan of its tier is worse for it.
    """

    alternatives: list[Other]
    classes: list[Class]
    displaced: list[str]
    better: Planned | None


class Answer(Struct, omit_defaults=True):
    """Result for one mission. If it is infeasible, the plan is the closest infeasible one, or null."""

    feasible: bool
    mode: Mode | None
    variant: str | None
    exit: str | None
    partitions: list[Partition]
    transfers: list[Transfer]
    fallback: str | None
    predicted: Predicted | None
    margins: MarginRatios
    terms: dict[str, float]
    switching: Switched | None
    objective: float | None
    bound: Annotated[
        float | None,
        Meta(
            description="upper bound on the objective of plans with up to four partitions; null, like gap, if unknown"
        ),
    ]
    gap: float | None
    blockers: list[Block]
    relaxations: list[Relaxed]
    rejected: list[Reject]
    explanation: Explained | None = None
    frontier: Annotated[list[Planned] | None, Meta(description="with --frontier: the Pareto front")] = None
    frontier_is_whole: Annotated[
        bool | None,
        Meta(description="with --frontier; false: the planning budget was exhausted, the front may be incomplete"),
    ] = None


class TierAnswer(Struct):
    """Joint result of a tier. served: number of feasible missions; bound: upper bound on value."""

    served: int
    value: float | None
    bound: float | None
    gap: float | None


class Before(Struct):
    """Result without the what-if options. plan: if infeasible, the closest infeasible plan, or null."""

    feasible: bool
    plan: Planned | None


class Answers(Struct, omit_defaults=True):
    """Results of all missions by `namespace/name`, and of tiers by criticality."""

    missions: dict[str, Answer]
    tiers: dict[str, TierAnswer]
    changed: Annotated[
        dict[str, Before] | None,
        Meta(description="with what-if options: missions whose mode, nodes, cuts or objective they change"),
    ] = None


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the output."""
    return msgspec.json.schema(Answers)


def build_output(
    missions: Mapping[str, Mission],
    fleet: FleetPlan,
    explanations: Mapping[str, Explanation],
    frontiers: Mapping[str, ParetoFront],
    changed: Mapping[str, Verdict] | None = None,
) -> dict[str, Any]:
    """Return the output as plain values. changed: mission -> its verdict without the what-if options."""
    found = {
        key: build_answer(missions[key], verdict, explanations.get(key), frontiers.get(key))
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
    """Return the result for one mission as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(build_answer(mission, verdict))
    return plain


def build_answer(
    mission: Mission,
    verdict: Verdict,
    explanation: Explanation | None = None,
    frontier: ParetoFront | None = None,
) -> Answer:
    """Return the result for one mission, with explanation and Pareto front if they were requested."""
    chosen = verdict.chosen
    planned = _planned(mission, chosen) if chosen else None
    bound = _finite(verdict.bound) if isinstance(verdict, Feasible) else None
    blockers, relaxations = ((), ()) if isinstance(verdict, Feasible) else (verdict.blockers, verdict.relaxations)
    return Answer(
        feasible=isinstance(verdict, Feasible),
        mode=planned.mode if planned else None,
        variant=planned.variant if planned else None,
        exit=planned.exit if planned else None,
        partitions=planned.partitions if planned else [],
        transfers=planned.transfers if planned else [],
        fallback=planned.fallback if planned else None,
        predicted=planned.predicted if planned else None,
        margins=planned.margins if planned else {},
        terms=planned.terms if planned else {},
        switching=planned.switching if planned else None,
        objective=planned.objective if planned else None,
        bound=bound,
        gap=_finite(bound - chosen.objective) if bound is not None and chosen else None,
        blockers=[_block(blocker) for blocker in blockers],
        relaxations=[Relaxed(r.objective, r.change, dict(r.changes)) for r in relaxations],
        rejected=[Reject(r.candidate, r.count, r.code, r.margin, r.example) for r in verdict.rejected],
        explanation=_explained(mission, explanation) if explanation else None,
        frontier=None if frontier is None else [_planned(mission, plan) for plan in frontier.plans],
        frontier_is_whole=None if frontier is None else frontier.is_complete,
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
                lacks={name: value for name, value in other.term_differences.items() if isfinite(value)},
                blockers=[_block(blocker) for blocker in other.blockers],
                suggested_changes=[dict(changes) for changes in other.suggested_changes],
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


def _known(figure: Estimate | None) -> Known | None:
    if figure is None or figure.basis is Basis.UNKNOWN:
        return None
    return Known(figure.value, figure.basis, figure.source)


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
