"""Simulation of the API server, kubelets, agents and slots of one mission, in small steps.

The operator keeps no state between passes: each starts from the stored objects, as after a SIGKILL. A pass can be
killed after any number of its writes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from maleo_api.mission import Mission, MissionStatus
from maleo_api.model import Model
from maleo_api.placement import Placement, PlacementStatus
from maleo_api.timestamps import format_timestamp
from maleo_operator.reconcilers.condition import is_true
from maleo_operator.reconcilers.manifests import children
from maleo_operator.reconcilers.mission import decide
from maleo_operator.reconcilers.policies import trigger
from maleo_operator.reconcilers.scope import MissionScope, Outcome, Telemetry
from maleo_planner.types.problem import NodeFacts, Verdict
from maleo_wire.messages import Revision, SlotDesired, SlotReport
from support.operator.builders import device, mission, model, scope, snapshot


@dataclass
class Slot:
    """Slot process of a pod, which approaches its desired state step by step."""

    desired: SlotDesired | None = None
    loaded: dict[int, Revision] = field(default_factory=dict)
    active: int | None = None
    capacity: int = 9  # revisions that fit its unit at once
    errors: tuple[str, ...] = ()

    def step(self, broken: set[int]) -> bool:
        """Take one step towards the desired state; return False if it is reached."""
        if self.desired is None:
            return False
        desired = {r.revision: r for r in self.desired.revisions}
        self.errors = tuple(f"revision {r}: ArtifactInvalid: digest mismatch" for r in sorted(desired.keys() & broken))
        missing = [r for r in desired if r not in self.loaded and r not in broken]
        if missing and len(self.loaded) < self.capacity:
            self.loaded[missing[0]] = desired[missing[0]]
            return True
        self.loaded.update({r: desired[r] for r in desired.keys() & self.loaded.keys()})  # addresses may have changed
        if self.desired.entry and self.active != self.desired.active and self.desired.active in self.loaded:
            self.active = self.desired.active
            return True
        extra = [r for r in self.loaded if r not in desired]
        if extra:
            del self.loaded[extra[0]]
        return bool(extra)


@dataclass
class World:
    planner: Callable[["World"], Verdict]
    mission: Mission = field(default_factory=mission)
    model: Model | None = field(default_factory=model)
    nodes: tuple[NodeFacts, ...] = field(default_factory=lambda: tuple(snapshot().nodes.values()))
    placements: dict[str, Placement] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    identity: str = "secret"
    service: dict[str, Any] | None = None
    telemetry: Telemetry = field(default_factory=lambda: Telemetry(fresh=True))
    lost: dict[str, float] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)  # revisions that no slot can load
    memory: dict[str, str] = field(default_factory=dict)  # node -> what its unit holds; one revision then
    now: float = 1_800_000_000.0
    epoch: int = 7
    addresses: int = 0
    events: list[str] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    last: Outcome = field(default_factory=Outcome)
    planned_at: float = 0.0  # 0: every pass may plan
    remembers: bool = False  # when it was planned last, as an operator does that is not restarted
    displaced: bool = False
    deleted: Placement | None = None  # a deleted Placement that the operator still knows

    # ------------------------------------------------------------------------------------------------ operator

    def scope(self) -> MissionScope:
        reports = {name: self._report(name) for name in self.slots if self._node(name) not in self.lost}
        facts = [replace(n, ready=n.name not in self.lost) for n in self.nodes]
        return scope(
            self.mission,
            model=self.model,
            placements=tuple(self.placements.values()),
            pods=tuple(children.parse_slot(pod) for pod in self.pods.values()),
            service=self.service,
            identity=self.identity,
            telemetry=replace(self.telemetry, reports=reports),
            snapshot=replace(snapshot(*facts), devices={n: device(n, m) for n, m in self.memory.items()}),
            lost_nodes=self.lost,
            epoch=self.epoch,
            now=self.now,
            deleted_active=self._known(),
            planned_at=self.planned_at,
            displaced=self.displaced,
        )

    def _known(self) -> Placement | None:
        active = self.mission.status.active
        is_active = self.deleted is not None and active is not None and self.deleted.spec.revision == active.revision
        return self.deleted if is_active else None

    def turn(self, writes: int | None = None) -> int:
        """Run one pass of the operator, killed after `writes` writes; return the number of writes that it had."""
        seen = self.scope()
        why = trigger.check(seen)
        if why is not None:
            digest = "sha256:" + "d" * 64
            seen = replace(seen, trigger=why, verdict=self.planner(self), inputs_digest=digest)
            self.planned_at, self.displaced = self.now if self.remembers else 0.0, False
        self.last = decide(seen)
        steps = self._writes(self.last)
        for step in steps[:writes]:
            step()
        if writes is None or writes >= len(steps):
            self.events += [e.reason for e in self.last.events]
            self._deliver(self.last)
        return len(steps)

    def _writes(self, outcome: Outcome) -> list[Callable[[], None]]:
        steps: list[Callable[[], None]] = [lambda o=o: self._create(o) for o in outcome.create]  # type: ignore[misc]
        steps += [lambda o=o: self._apply(o) for o in outcome.apply]  # type: ignore[misc]
        for name, status in outcome.placement_status.items():
            steps.append(lambda n=name, s=status: self._mark(n, s))  # type: ignore[misc]
        if outcome.status is not None:
            steps.append(lambda: self._report_status(outcome))
        return steps + [lambda r=r: self._delete(r.kind, r.name) for r in outcome.delete]

    def _create(self, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "Placement":
            assert name not in self.placements, "a revision is created once"
            stamped = manifest | {"metadata": manifest["metadata"] | {"creationTimestamp": format_timestamp(self.now)}}
            self.placements[name] = Placement.model_validate(stamped)
        elif manifest["kind"] == "Pod" and name not in self.pods:
            meta = manifest["metadata"] | {"creationTimestamp": format_timestamp(self.now)}
            self.pods[name] = manifest | {"metadata": meta, "status": {"phase": "Pending"}}
            self.slots[name] = Slot(capacity=1 if self._node(name) in self.memory else 9)

    def _apply(self, manifest: dict[str, Any]) -> None:
        if manifest["kind"] == "Pod":
            self.pods[manifest["metadata"]["name"]]["metadata"]["labels"] |= manifest["metadata"]["labels"]
        else:
            self.service = manifest["spec"]

    def _mark(self, name: str, status: dict[str, Any]) -> None:
        update = {"status": PlacementStatus.model_validate(status)}
        self.placements[name] = self.placements[name].model_copy(update=update)

    def _report_status(self, outcome: Outcome) -> None:
        before = self.mission.status.active
        status = MissionStatus.model_validate(outcome.status)
        assert (status.active != before) == outcome.commit
        if status.active is not None and outcome.commit:
            assert before is None or status.active.revision > before.revision, "a committed revision never goes back"
            self._assert_warm(status.active.revision)
            self.commits.append(status.active.revision)
        if is_true(status.conditions, "Ready") and not is_true(self.mission.status.conditions, "Ready"):
            assert self._can_answer(), "a Ready mission answers requests"
        self.mission = self.mission.model_copy(update={"status": status})

    def _delete(self, kind: str, name: str) -> None:
        if kind == "Placement":
            self.placements.pop(name, None)
        elif name in self.pods:
            self.pods[name]["metadata"]["deletionTimestamp"] = format_timestamp(self.now)

    def _deliver(self, outcome: Outcome) -> None:
        """Send the whole desired state to the agents; slots that it does not contain are sent nothing any more."""
        for on, desired in outcome.slots:
            if on not in self.lost:
                self.slots[desired.slot.partition("/")[2]].desired = desired

    # ------------------------------------------------------------------------------------------------ nodes

    def start(self) -> bool:
        """Let a kubelet start one pod, or end one that is terminating; return False if there is none."""
        for name, pod in list(self.pods.items()):
            if self._node(name) in self.lost:
                continue
            if "deletionTimestamp" in pod["metadata"]:
                del self.pods[name], self.slots[name]
                return True
            if "podIP" not in pod["status"]:
                self.addresses += 1
                ready = {"type": "Ready", "status": "True"}
                pod["status"] = {"phase": "Running", "podIP": f"10.0.0.{self.addresses}", "conditions": [ready]}
                return True
        return False

    def load(self, position: int = 0) -> bool:
        """Let one slot take one step; return False if there is none to take. position: of the slot to try first."""
        names = [n for n in self.slots if "podIP" in self.pods[n]["status"] and self._node(n) not in self.lost]
        rotated = names[position % len(names) :] + names[: position % len(names)] if names else []
        return any(self.slots[name].step(self.broken) for name in rotated)

    def settle(self, rounds: int = 60) -> None:
        """Run until nothing is written and nothing is loaded any more; fail after `rounds`."""
        for _ in range(rounds):
            busy = [self.turn() > 0, self.start(), self.load()]
            self.now += 1
            if not any(busy):
                return
        raise AssertionError(f"does not settle: {self.last}")

    def serves(self) -> bool:
        """Return True if a request to the Service would be answered now, through the whole chain."""
        entry = self._entry()
        return entry is not None and self.slots[entry].active is not None and self._answers(entry)

    def _can_answer(self) -> bool:
        """Whether a request would be answered by the whole chain, or by the entry's fallback."""
        entry = self._entry()
        desired = self.slots[entry].desired if entry is not None and self.slots[entry].active is not None else None
        return self.serves() or (desired is not None and desired.fallback is not None)

    def lose_memory_of_active(self) -> None:
        status = self.mission.status.model_copy(update={"active": None})
        self.mission = self.mission.model_copy(update={"status": status})

    def _entry(self) -> str | None:
        return next((name for name, pod in self.pods.items() if self._is_selected(pod)), None)

    def _is_selected(self, pod: dict[str, Any]) -> bool:
        selected = (self.service["selector"] if self.service else {"": ""}).items() <= pod["metadata"]["labels"].items()
        return selected and "podIP" in pod["status"] and "deletionTimestamp" not in pod["metadata"]

    def _answers(self, name: str) -> bool:
        revision, seen = self.slots[name].active, set()
        while name and revision in self.slots[name].loaded and name not in seen:
            seen.add(name)
            hop = self.slots[name].loaded[revision].next
            if hop is None:
                return True
            name = next((n for n, p in self.pods.items() if f"{p['status'].get('podIP')}:8080" == hop.address), "")
        return False

    def _assert_warm(self, revision: int) -> None:
        spec = next(p.spec for p in self.placements.values() if p.spec.revision == revision)
        for chosen in {(spec.entry_node, spec.entry_unit), *((p.node, p.unit) for p in spec.partitions)}:
            assert any(revision in self.slots[name].loaded and self._place(name) == chosen for name in self.slots), (
                f"revision {revision} was committed before {chosen} had loaded it"
            )

    def _place(self, name: str) -> tuple[str, str]:
        pod = children.parse_slot(self.pods[name])
        return pod.node, pod.unit

    def _node(self, name: str) -> str:
        return self._place(name)[0]

    def _report(self, name: str) -> SlotReport:
        slot = self.slots[name]
        return SlotReport(
            slot=f"demo/{name}",
            warm=tuple(sorted(slot.loaded)),
            active=slot.active,
            highest_epoch=self.epoch,
            fallback_warm=slot.desired is not None and slot.desired.fallback is not None,
            address="",
            revisions=(),
            errors=slot.errors,
        )
