"""Many missions: strictly by criticality, then by name; what one gets the next ones find taken."""

from dataclasses import replace
from typing import Final

from maleo_operator.planning.index import Index
from maleo_operator.planning.planner import plan
from maleo_operator.planning.problem import Feasible, Snapshot, Verdict

_TIERS: Final = {"Safety": 0, "Mission": 1, "BestEffort": 2}


def plan_all(snapshot: Snapshot) -> dict[str, Verdict]:
    """Mission key -> its verdict. A lower tier never costs a higher one anything: it is planned on what is left."""
    order = sorted(snapshot.missions, key=lambda k: (_TIERS[snapshot.missions[k].spec.criticality], k))
    verdicts: dict[str, Verdict] = {}
    index = Index(snapshot)
    held = {key: kept for key, kept in snapshot.held.items() if key in snapshot.missions}
    for key in order:
        verdict = plan(replace(snapshot, held=held), key, index=index)
        verdicts[key] = verdict
        chosen = verdict.plan if isinstance(verdict, Feasible) else verdict.least_bad
        held.pop(key, None)
        if chosen is not None:
            held[key] = chosen
    return verdicts
