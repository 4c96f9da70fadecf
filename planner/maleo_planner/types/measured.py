"""Measured values behind a decision, written to and restored from the status of a mission."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from maleo_api.meta import Basis
from maleo_api.mission import MAX_MEASURED, Decision, MeasuredLink, MeasuredUnit, ThrottledUnit
from maleo_api.quantities import BANDWIDTH, RATIO, parse, show
from maleo_planner.types.problem import Estimate, Observations

_DIGITS: Final = 4
_SOURCE: Final = "the operator's last decision"


def record_observations(
    observations: Observations, *, reason: str, inputs_digest: str, nodes: Sequence[str], digests: Collection[str]
) -> Decision:
    """Return the decision together with the measured values that it was based on.

    Args:
        observations: All measured values.
        reason: Why the plan was chosen.
        inputs_digest: Digest of the stored planning problem.
        nodes: By relevance. Values of the first nodes are kept where a status cannot hold all.
        digests: Artifacts of the model of the mission.
    """
    positions = {node: position for position, node in enumerate(nodes)}

    def relevance(*touched: str) -> tuple[int, ...]:
        return tuple(positions.get(node, len(positions)) for node in touched)

    links = sorted(observations.bandwidth.items(), key=lambda row: (relevance(*row[0]), row[0]))
    units = sorted(
        ((key, estimate) for key, estimate in observations.correction.items() if key[0] in digests),
        key=lambda row: (relevance(row[0][1]), row[0]),
    )
    throttled_units = ((key, share) for key, share in observations.capacity.items() if share < 1)
    throttled = sorted(throttled_units, key=lambda row: (relevance(row[0][0]), row[0]))
    return Decision(
        reason=reason,
        inputs_digest=inputs_digest,
        links=[
            MeasuredLink(
                source=source,
                target=target,
                bandwidth=show(BANDWIDTH, estimate.value, digits=_DIGITS),
                spread=show(BANDWIDTH, estimate.sigma, digits=_DIGITS),
            )
            for (source, target), estimate in links[:MAX_MEASURED]
        ],
        units=[
            MeasuredUnit(
                node=node,
                unit=unit,
                digest=digest,
                time=show(RATIO, estimate.value, digits=_DIGITS),
                spread=show(RATIO, estimate.sigma, digits=_DIGITS),
            )
            for (digest, node, unit), estimate in units[:MAX_MEASURED]
        ],
        throttled=[
            ThrottledUnit(node=node, unit=unit, capacity=show(RATIO, share, digits=_DIGITS))
            for (node, unit), share in throttled[:MAX_MEASURED]
        ],
    )


def restore_observations(decisions: Iterable[Decision]) -> Observations:
    """Return the measured values of these decisions; of conflicting values the last one counts."""
    found = list(decisions)
    return Observations(
        bandwidth={
            (link.source, link.target): _estimate(
                parse(BANDWIDTH, link.bandwidth), parse(BANDWIDTH, link.spread), Basis.MEASURED
            )
            for decision in found
            for link in decision.links
        },
        correction={
            (unit.digest, unit.node, unit.unit): _estimate(
                parse(RATIO, unit.time), parse(RATIO, unit.spread), Basis.CALIBRATED
            )
            for decision in found
            for unit in decision.units
        },
        capacity={
            (unit.node, unit.unit): parse(RATIO, unit.capacity) for decision in found for unit in decision.throttled
        },
    )


def _estimate(value: float, sigma: float, basis: Basis) -> Estimate:
    return Estimate(value, sigma, basis, _SOURCE)
