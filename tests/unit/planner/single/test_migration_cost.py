"""Cost of a move to a plan: from nothing, from the same plan, and from a plan that shares some of it."""

from dataclasses import replace

import pytest

from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible, Plan, Snapshot
from support.planner.builders import KEY, block, link, mission, model, profile, snapshot, variant


def _world(*modes: str) -> Snapshot:
    """Return a model of 16 MiB in four blocks, a slow drone and a fast edge."""
    chain = [block(f"b{i}", mop=50, cut=1000 if i < 3 else None, parameters="4Mi") for i in range(4)]
    return snapshot(
        profiles={"drone": profile("slow", gops=10), "edge": profile("quick", gops=100)},
        missions=[mission(modes=list(modes), objectives={"latency": {"atMost": "1s"}})],
        net=model(variant("fp32", chain)),
        links=[link("drone", "edge", "100Mbit/s")],
    )


def _chosen(world: Snapshot, held: Plan | None = None) -> Plan:
    verdict = plan(replace(world, current_plans={KEY: held} if held else {}), KEY)
    assert isinstance(verdict, Feasible)
    return verdict.plan


def test_first_plan__pulls_the_artifact_and_loads_every_partition() -> None:
    chosen = _chosen(_world("Local"))
    assert chosen.switching is not None
    assert chosen.switching.pull == 2**20
    load, warm_up = chosen.partitions[0].memory / 150e6, 2 * chosen.partitions[0].compute.value
    assert chosen.switching.time.value == pytest.approx(2**20 / 12.5e6 + load + warm_up)
    assert chosen.switching.memory == 0


def test_move_to_the_current_plan__costs_nothing() -> None:
    held = _chosen(_world("Local"))
    again = _chosen(_world("Local"), held).switching
    assert again is not None
    assert (again.pull, again.time.value, again.memory) == (0, 0, 0)


def test_move_to_another_cut__pulls_only_missing_artifacts_and_counts_memory_held_twice() -> None:
    held = _chosen(_world("Local"))
    split = _chosen(_world("Split"), held)
    assert split.mode == "Split"
    assert split.switching is not None
    assert split.switching.pull == 2**20  # by the edge
    here = [part for part in split.partitions if part.node == "drone"]
    spare = split.fallback.partition.memory if split.fallback else 0
    extra = sum(part.memory for part in here) + (0 if _is_held(split, held) else spare)
    assert split.switching.memory == extra


def _is_held(chosen: Plan, held: Plan) -> bool:
    """Return whether the fallback is the partition that served before."""
    part, before = chosen.fallback and chosen.fallback.partition, held.partitions[0]
    return part is not None and (part.node, part.unit, part.last) == (before.node, before.unit, before.last)
