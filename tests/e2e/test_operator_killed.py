"""SIGKILL of all replicas of the operator during a move: before and after the commit."""

import copy
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from maleo_demo.environment import Environment
from maleo_kube.answers import Object
from maleo_kube.resources import MISSIONS, PLACEMENTS, PODS
from support.e2e import processes
from support.e2e.missions import GATE, apply, faults, is_ready, load, mission
from support.e2e.watch import is_condition, is_leaving, watching

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_WAIT_S = 120
_OPERATOR = "maleo_operator.main"


def _spec(mode: str, variant: str) -> dict[str, object]:
    return copy.deepcopy(GATE) | {"modes": [mode], "model": {"name": "squeezenet", "variants": [variant]}}


class Killer:
    """Kill the operator once, as soon as an object shows the given moment of the move."""

    def __init__(self, mission: str, moment: str) -> None:
        self.mission = mission
        self.kind = {"decided": PLACEMENTS, "committed": MISSIONS}[moment]
        self.killed: list[int] = []

    def observe(self, item: Object) -> None:
        if not self.killed and self._is_reached(item):
            self.killed = processes.kill(_OPERATOR)

    def _is_reached(self, item: Object) -> bool:
        if self.kind is PLACEMENTS:
            return bool(item["spec"]["mission"] == self.mission and item["spec"]["mode"] == "Split")
        active = item.get("status", {}).get("active") or {}
        return item["metadata"]["name"] == self.mission and active.get("revision") == 2


@pytest.fixture(autouse=True)
def _replace_operator_pods(environment: Environment) -> Iterator[None]:
    """Delete the pods of the operator afterwards: a kubelet backs off with each restart of the same container."""
    yield
    operator_pods = ["-n", "maleo-system", "pods", "-l", "app.kubernetes.io/name=maleo-operator"]
    environment.kubectl("delete", *operator_pods, "--wait=false")


@pytest.mark.parametrize("moment", ["decided", "committed"])
async def test_operator_killed_during_a_move__keeps_one_revision_serving_and_reserves_no_unit_twice(
    environment: Environment, moment: str
) -> None:
    """The move changes the variant and splits it: a response of a mix of both revisions would be wrong."""
    name = f"killed-when-{moment}"
    killer = Killer(name, moment)
    async with mission(environment, name, _spec("Local", "fp32")) as observer:
        first = await observer.await_status(is_ready, what="Ready", timeout_s=_WAIT_S)
        assert first.revision == 1
        async with (
            load(environment, first) as made,
            watching(environment, killer.kind, on_change=killer.observe) as seen,
        ):
            await made.until(20)
            apply(environment, name, _spec("Split", "int8"))
            await seen.until(lambda _: bool(killer.killed), what=moment)
            killed_at = time.time()
            assert len(killer.killed) == 2
            if moment == "decided":  # its slots do not exist yet, so the new revision cannot serve
                assert observer.history[-1].revision == 1
            second = await observer.await_status(
                lambda s: s.revision == 2 and is_ready(s), what="revision 2", timeout_s=_WAIT_S, since=killed_at
            )
            await _await_end_of_the_move(environment, name)
            await made.until(len(made.samples) + 20)
        assert faults(made) == []
        served = [(s.revision, s.variant) for s in sorted(made.samples, key=lambda s: s.sent_at)]
        assert set(served) == {(1, "fp32"), (2, "int8")}
        assert all(one <= other for one, other in pairwise(served)), "the old revision does not serve after the new one"
        assert [(m.from_revision, m.to_revision) for m in second.mission.status.moves] == [(1, 2)]


async def _await_end_of_the_move(environment: Environment, name: str) -> None:
    """Wait until the old of two revisions is superseded; check that there is one slot for each unit, and no other."""
    selector = f"maleo.dev/mission={name}"
    async with (
        watching(environment, PLACEMENTS, labels=selector) as placements,
        watching(environment, PODS, labels=selector) as pods,
    ):
        found = await placements.until(
            lambda ps: any(p["spec"]["revision"] == 1 and is_condition(p, "Superseded", "True") for p in ps),
            what="the end of revision 1",
        )
        assert sorted(p["spec"]["revision"] for p in found) == [1, 2]
        (second,) = (p for p in found if p["spec"]["revision"] == 2)
        there = [p["metadata"]["labels"] for p in pods.objects.values() if not is_leaving(p)]
        units = [(labels["maleo.dev/node"], labels["maleo.dev/unit"]) for labels in there]
        parts = second["spec"]["partitions"]
        assert sorted(units) == sorted({(part["node"], part["unit"].replace("/", "_")) for part in parts})
