"""Order of candidates: criteria by priority, and ties that the next criterion breaks."""

from dataclasses import replace

import pytest

from maleo_planner.cost_model.units import list_units
from maleo_planner.single.candidate import Candidate, CandidatePartition, partition_keys
from maleo_planner.types.variants import list_runnable_variants
from support.operator.builders import plan
from support.planner.builders import block, mission, model, profile, snapshot, variant

NET = model(variant("fp32", [block("a", mop=10, cut=None)]))
FIRST, SECOND = list_units(snapshot(profiles={"a": profile("p"), "b": profile("p")}, missions=[mission()], net=NET))
BASE = Candidate(
    variant=list_runnable_variants(NET)[0],
    mode="Local",
    partitions=(CandidatePartition(FIRST, 0, 0),),
    objective=0.5,
    shortfalls={},
    latency=0.02,
    energy=0.1,
    is_move=0,
    preference_penalties=(0.0, 0.0),
)

ROWS: list[tuple[str, Candidate, Candidate]] = [
    # criterion, better, worse
    ("a kept limit before any objective value", BASE, replace(BASE, objective=0.9, shortfalls={"latency": 0.01})),
    (
        "the smaller shortfall",
        replace(BASE, shortfalls={"rate": 0.1}),
        replace(BASE, shortfalls={"rate": 0.05, "energy": 0.06}),
    ),
    ("the higher objective", replace(BASE, objective=0.6, is_move=1), BASE),
    ("no move, at equal objectives", BASE, replace(BASE, is_move=1, energy=0.0)),
    ("preferred hardware, at equal objectives", BASE, replace(BASE, preference_penalties=(0.5, 0.0), energy=0.0)),
    (
        "the cheaper hardware, at equal preference penalties",
        BASE,
        replace(BASE, preference_penalties=(0.0, 9.0), energy=0.0),
    ),
    ("the lower energy", BASE, replace(BASE, energy=0.2, latency=0.0)),
    ("the lower latency", BASE, replace(BASE, latency=0.03)),
    ("the name", BASE, replace(BASE, partitions=(CandidatePartition(SECOND, 0, 0),))),
    ("a finite objective before an unknown one", BASE, replace(BASE, objective=float("-inf"))),
]


@pytest.mark.parametrize(("criterion", "better", "worse"), ROWS, ids=[row[0] for row in ROWS])
def test_sort_key__is_decided_by(criterion: str, better: Candidate, worse: Candidate) -> None:
    assert better.sort_key < worse.sort_key, criterion


def test_sort_key__ignores_rounding_errors() -> None:
    """Sums of equal terms in another order differ by rounding errors, which must not cause a move."""
    assert replace(BASE, objective=0.5 + 1e-12, energy=0.1 + 1e-12).sort_key == BASE.sort_key


def test_partition_keys__have_the_form_that_find_path_takes() -> None:
    assert partition_keys(plan("drone-1", "edge-1:npu0/npu")) == [
        ("drone-1", "host/cpu", 0, ""),
        ("edge-1", "npu0/npu", 1, ""),
    ]
