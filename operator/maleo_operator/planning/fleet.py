"""Many missions: strictly by criticality, then by name; what one gets the next ones find taken."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from maleo_operator.planning.index import Index
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, Snapshot, Verdict
from maleo_operator.planning.solver import Aim

TIERS: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}


def plan_all(snapshot: Snapshot, *, aim: Aim = "margins") -> dict[str, Verdict]:
    """Mission key -> its verdict. A lower tier never costs a higher one anything: it is planned on what is left."""
    return {key: verdict for key, _, verdict in plan_each(snapshot, aim=aim)}


def plan_each(snapshot: Snapshot, *, aim: Aim = "margins") -> Iterator[tuple[str, Snapshot, Verdict]]:
    """Mission key, the snapshot that it was planned on (with what the others hold by then), and its verdict."""
    index = Index(snapshot)
    held = {key: kept for key, kept in snapshot.held.items() if key in snapshot.missions}
    for key in sorted(snapshot.missions, key=lambda k: (TIERS[snapshot.missions[k].spec.criticality], k)):
        seen = replace(snapshot, held=dict(held))
        verdict = plan(seen, key, aim=aim, index=index)
        yield key, seen, verdict
        chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
        held.pop(key, None)
        if chosen is not None:
            held[key] = chosen
