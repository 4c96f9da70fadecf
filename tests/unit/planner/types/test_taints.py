"""Taints of nodes: the scheduler's rules, and their effect on planning."""

from dataclasses import replace
from typing import Any

import pytest

from maleo_api.manifests import Manifests, Node
from maleo_planner.planner import plan
from maleo_planner.types.from_manifests import from_manifests
from maleo_planner.types.problem import Feasible, Infeasible, Snapshot
from maleo_planner.types.taints import find_untolerated
from support.planner.builders import block, mission, model, profile, snapshot, variant

_OUT, _LOW = "node.kubernetes.io/out-of-service", "node.kubernetes.io/memory-pressure"
_TAINT = {"key": "dedicated", "value": "npu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "dedicated", "operator": "Equal", "value": "npu", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "npu"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "dedicated", "value": "gpu"}, False),
        ({"key": "dedicated"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({}, False),
    ],
)
def test_toleration__matches_as_in_the_scheduler(toleration: dict[str, str], tolerated: bool) -> None:
    assert find_untolerated([_TAINT], [toleration]) == (() if tolerated else ("dedicated=npu:NoSchedule",))


@pytest.mark.parametrize(
    ("taint", "shown"),
    [
        (_TAINT, ("dedicated=npu:NoSchedule",)),
        (
            {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"},
            ("node.kubernetes.io/out-of-service:NoExecute",),
        ),
        (_TAINT | {"effect": "PreferNoSchedule"}, ()),
        ({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}, ()),
        ({"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}, ()),
        (
            {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"},
            ("node.kubernetes.io/memory-pressure:NoSchedule",),
        ),
    ],
)
def test_taint__is_listed_if_it_repels_slots_and_no_other_field_states_it(
    taint: dict[str, str], shown: tuple[str, ...]
) -> None:
    assert find_untolerated([taint]) == shown


def _world(**taints: tuple[str, ...]) -> Snapshot:
    net = model(variant("fp32", [block("a", mop=1, cut=None)]))
    found = snapshot(profiles={"drone": profile("p")}, missions=[mission()], net=net)
    nodes = {name: replace(node, taints=taints.get(name, ())) for name, node in found.nodes.items()}
    return replace(found, nodes=nodes)


def test_tainted_node__is_excluded_and_reported_with_the_remedy() -> None:
    assert isinstance(plan(_world(), mission().key), Feasible)
    verdict = plan(_world(drone=("dedicated=npu:NoSchedule",)), mission().key)
    assert isinstance(verdict, Infeasible)
    (first, *_) = verdict.blockers
    assert (first.code, first.retry) == ("NodeTainted", "CannotNow")
    assert "drone has taint dedicated=npu:NoSchedule, which slots do not tolerate" in first.message
    assert "slots.tolerations" in first.message


def test_manifests__provide_the_taints_of_nodes() -> None:
    body: dict[str, Any] = {"kind": "Node", "metadata": {"name": "n9"}, "spec": {"taints": [_TAINT]}}
    manifests = Manifests(nodes={"n9": Node.model_validate(body)})
    assert from_manifests(manifests).nodes["n9"].taints == ("dedicated=npu:NoSchedule",)
