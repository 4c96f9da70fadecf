"""Order of missions for the planner: fair between namespaces, by rank within one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from maleo_operator.engine.fairness import FairShare

_SAFETY, _MISSION, _BEST_EFFORT = (0, 0), (1, 0), (2, 0)


def test_order__is_by_rank_while_no_namespace_has_used_much() -> None:
    due = {"a/low": _BEST_EFFORT, "a/high": _MISSION, "b/urgent": (1, -1000), "b/low": _BEST_EFFORT, "c/safe": _SAFETY}
    assert list(FairShare().order(due)) == ["c/safe", "b/urgent", "a/high", "a/low", "b/low"]


def test_order__puts_a_new_namespace_before_one_that_has_used_much() -> None:
    fair = FairShare()
    hard = {f"bad/{number}": (1, -1000) for number in range(200)}
    for key in list(fair.order(hard))[:3]:
        fair.charge(key, 1.0)
    assert next(fair.order({**hard, "new/first": _BEST_EFFORT})) == "new/first"


def test_order__puts_safety_first_whatever_its_namespace_has_used() -> None:
    fair = FairShare()
    for key in fair.order({"busy/one": _MISSION}):
        fair.charge(key, 100.0)
    assert next(fair.order({"busy/safe": _SAFETY, "idle/other": _MISSION})) == "busy/safe"


def test_order__gives_no_credit_for_idle_time() -> None:
    fair = FairShare()
    for round_ in range(100):
        for key in fair.order({f"busy/{round_}": _MISSION}):
            fair.charge(key, 1.0)
    first = next(fair.order({"busy/x": _MISSION, "idle/x": _MISSION}))
    fair.charge(first, 1.0)
    second = next(fair.order({"busy/x": _MISSION, "idle/x": _MISSION}))
    assert {first, second} == {"busy/x", "idle/x"}


_COST = st.floats(0.001, 2.0)


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(_COST, min_size=20, max_size=20), min_size=2))
def test_order__serves_backlogged_namespaces_equally(costs: dict[str, list[float]]) -> None:
    """While all have work left, no namespace gets ahead of another by more than its quantum and one plan."""
    fair, spent = FairShare(), Counter[str]()
    waiting = {f"{name}/{number:02}": cost for name, each in costs.items() for number, cost in enumerate(each)}
    longest = max(waiting.values())
    while all(any(key[0] == name for key in waiting) for name in costs):
        key = next(fair.order(dict.fromkeys(waiting, _MISSION)))
        fair.charge(key, waiting[key])
        spent[key[0]] += waiting.pop(key)
        used = [spent[name] for name in costs]
        assert max(used) - min(used) <= 0.25 + 2 * longest


@given(st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), min_size=1))
def test_order__yields_every_mission_once(missions: set[tuple[str, int]]) -> None:
    due = {f"{namespace}/{number}": (1 + number % 2, -number) for namespace, number in missions}
    assert sorted(FairShare().order(due)) == sorted(due)
