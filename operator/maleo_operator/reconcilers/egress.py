"""Checks of a Placement against the mission's egress rules and the current labels of nodes."""

from collections.abc import Iterator

from maleo_api.egress import Place, may_receive
from maleo_api.labels import SITE
from maleo_api.model import is_raw
from maleo_api.placement import Partition, Placement
from maleo_operator.reconcilers.scope import MissionScope


def breaks_egress(scope: MissionScope, placement: Placement) -> bool:
    """Return True if a partition receives data that the egress rules do not allow on its node.

    A node that does not exist (any more) is a violation unless the rule is Any, because its site is unknown.
    """
    return any(True for _ in _violations(scope, placement))


def withholds_input(scope: MissionScope, placement: Placement, target: Partition) -> bool:
    """Return True if the egress rule for raw input forbids the node of `target`."""
    nodes, source = scope.snapshot.nodes, placement.spec.entry_node
    reach = scope.mission.spec.egress.input
    return target.node != source and not may_receive(reach, nodes.get(source), nodes.get(target.node))


def describe_violation(scope: MissionScope, placement: Placement) -> str:
    """Return a message for the first violation between existing nodes; empty if there is none."""
    existing = scope.snapshot.nodes.keys()
    return next(
        (message for node, message in _violations(scope, placement) if {node, placement.spec.entry_node} <= existing),
        "",
    )


def _violations(scope: MissionScope, placement: Placement) -> Iterator[tuple[str, str]]:
    """Yield (node, message) for each partition whose received data violates an egress rule."""
    nodes, source = scope.snapshot.nodes, placement.spec.entry_node
    for part in placement.spec.partitions:
        rule = _rule_for(scope, placement, part)
        reach = getattr(scope.mission.spec.egress, rule)
        if part.node != source and not may_receive(reach, nodes.get(source), nodes.get(part.node)):
            source_name, target_name = (
                _describe_node(source, nodes.get(source)),
                _describe_node(part.node, nodes.get(part.node)),
            )
            yield part.node, f"spec.egress.{rule} is {reach}: {target_name} may not receive {rule} from {source_name}"


def _rule_for(scope: MissionScope, placement: Placement, part: Partition) -> str:
    """Return the field of `spec.egress` that governs the data received by `part`: `input` or `features`.

    The Model declares which cuts carry the raw input, as long as it still describes the artifact of the Placement.
    """
    first, spec = part.span.first, placement.spec
    for variant in scope.model.spec.variants if scope.model is not None else ():
        same = any(artifact.digest == spec.artifact.digest for artifact in variant.artifacts)
        if variant.name == spec.variant and same and 0 < first <= len(variant.blocks):
            return "input" if is_raw(variant.blocks, first - 1) else "features"
    return "features" if first > 0 else "input"


def _describe_node(node: str, facts: Place | None) -> str:
    site = facts.site if facts is not None else ""
    return f"{node} (site {site})" if site else f"{node} (no label {SITE})"
