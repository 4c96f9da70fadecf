"""Variations of plain problems: unusual hardware, exits, codecs, links by site and tier, caps, unavailable nodes.

Each part is drawn from one source of chance and added to a plain world, often enough to matter.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from maleo_api.device import DeviceProfile, Link
from maleo_api.meta import Resource, Tier
from maleo_planner.types.problem import NodeFacts, Snapshot
from support.planner.builders import codec, exit_head, meta

Made = TypeVar("Made", bound=Resource)
Body = dict[str, Any]


def mix(chance: Random, found: Snapshot) -> Snapshot:
    """Return the problem with random variations of every kind."""
    found = replace(
        found,
        profiles={name: changed(each, _Hardware(chance)) for name, each in found.profiles.items()},
        models={key: changed(each, _Network(chance)) for key, each in found.models.items()},
        model_profiles={key: changed(each, _Measured(chance)) for key, each in found.model_profiles.items()},
        nodes={name: _node(chance, node) for name, node in found.nodes.items()},
        links=_links(chance, found),
        missions={key: changed(each, _Wanted(chance)) for key, each in found.missions.items()},
    )
    for name in found.nodes:
        if chance.random() < 0.5:
            found = _with_host(chance, found, name)
    found = replace(found, devices={name: changed(each, _State(chance)) for name, each in found.devices.items()})
    for name in found.nodes:
        if chance.random() < (0.04 if name == "drone" else 0.2):
            found = _down(chance.choice(("node", "cordon", "device", "unit")), found, name)
    return found


def _down(what: str, found: Snapshot, name: str) -> Snapshot:
    """Return the problem with an unavailable node, device or unit. what: node, cordon, device or unit."""
    if what in ("node", "cordon"):
        node = found.nodes[name]
        down = replace(node, ready=False) if what == "node" else replace(node, schedulable=False)
        return replace(found, nodes={**found.nodes, name: down})

    def stop(body: Body) -> None:
        if what == "device":
            body["status"]["conditions"] = [{"type": "Ready", "status": "Unknown", "reason": "Drawn"}]
        else:
            body["status"]["units"] = [{"name": "acc/npu", "state": "Unavailable"}]

    return replace(found, devices={**found.devices, name: changed(found.devices[name], stop)})


def changed(made: Made, change: Callable[[Body], object]) -> Made:
    """Return the object after a change of its API form."""
    body = made.to_api()
    change(body)
    return type(made).model_validate(body)


def _figure(value: float, basis: str = "Measured") -> Body:
    return {"metric": "top-1", "dataset": "d", "value": f"{value:g}%", "basis": basis}


class _Part:
    def __init__(self, chance: Random) -> None:
        self.chance = chance

    def often(self, share: float) -> bool:
        return self.chance.random() < share


class _Hardware(_Part):
    def __call__(self, body: Body) -> None:
        body["spec"]["os"] = ["linux"] if self.often(0.85) else []
        for unit in body["spec"]["computeUnits"]:
            unit["features"] = ["Splittable"] if self.often(0.85) else []
            unit["runtimes"] = [
                {
                    "name": "onnxruntime" if self.often(0.97) else "hailort",
                    "formats": ["onnx"] if self.often(0.97) else ["hef"],
                    "version": self.chance.choice(("2.1", "2.1", "2.0", "2.0", "1.9", "")),
                    "providers": self.chance.choice(([], ["npu"])),
                }
            ]
            self._turns(unit)
            self._misses(unit)
            self._peaks(unit)
            self._modes(unit)
            self._memories(unit)

    def _turns(self, unit: Body) -> None:
        if self.often(0.45):
            unit["features"].append("Reconfigurable")
            times = self.chance.choice(((), ("0ms",), ("5ms",), ("5ms",), ("40ms",), ("300ms", "2ms")))
            bases = ("Measured", "Claimed")
            unit["reconfiguration"] = [{"time": t, "basis": b} for t, b in zip(times, bases, strict=False)]

    def _misses(self, unit: Body) -> None:
        if self.often(0.3):
            unit["features"].append("Analog")
            values = self.chance.choice(((), ("0.5%",), ("2%",), ("2%",), ("5%",)))
            unit["accuracyTolerance"] = [{"value": value, "basis": "Claimed"} for value in values]
            joules = self.chance.choice(("", "0.3uJ", "3uJ"))
            unit["weightWriting"] = [{"energyPerByte": joules, "basis": "Claimed"}] if joules else []

    def _peaks(self, unit: Body) -> None:
        """Change peaks: conflicting rows, rows of sparse weights, missing rows."""
        for row in list(unit["peak"]):
            gops = int(row["rate"].removesuffix("GOPS"))
            if self.often(0.2):
                unit["peak"].append(row | {"sparsity": "2:4", "rate": f"{gops * 2}GOPS"})
                if self.often(0.7):
                    unit["efficiency"].append(unit["efficiency"][0] | {"precision": row["precision"], "sparsity": "2:4", "value": "80%"})  # fmt: skip  # noqa: E501
            if self.often(0.15):
                unit["peak"].insert(0, row | {"rate": f"{gops * 3}GOPS", "basis": "Claimed"})
        if self.often(0.1):
            unit["efficiency"].pop(0)
        if self.often(0.12):
            gone = self.chance.choice(("fp32", "fp32", "int8"))
            unit["peak"] = [row for row in unit["peak"] if row["precision"] != gone]

    def _modes(self, unit: Body) -> None:
        if self.often(0.3):
            unit["peak"] = [*unit["peak"], *(row | {"rate": "4GOPS", "powerMode": "eco"} for row in unit["peak"])]
            unit["power"] = [
                *unit["power"],
                {"state": "Typical", "value": "1W", "powerMode": "eco", "basis": "Measured"},
            ]

    def _memories(self, unit: Body) -> None:
        """Add on-chip memory to the unit's own, which takes precedence, or replace it."""
        if self.often(0.4):
            row = {"kind": "OnChip", "size": f"{self.chance.randint(2, 9)}Mi", "basis": "Measured"}
            fast = {"bandwidth": f"{self.chance.randint(50, 900)}MB/s"} if self.often(0.5) else {}
            unit["memory"].insert(self.chance.choice((0, 1)), row | fast)
            if self.often(0.5):
                own = next(m for m in unit["memory"] if m["kind"] == "Dedicated")
                own["kind"] = "Shared"


class _Network(_Part):
    def __call__(self, body: Body) -> None:
        for variant in body["spec"]["variants"]:
            base = float(variant["accuracy"][0]["value"].removesuffix("%")) if variant["accuracy"] else 70.0
            needs = variant["requires"]
            needs |= {"features": ["Splittable"]} if self.often(0.15) else {}
            needs |= {"version": ">=2.0"} if self.often(0.15) else {}
            needs |= {"os": "linux"} if self.often(0.15) else {}
            needs |= {"providers": ["npu", "gpu"]} if self.often(0.1) else {}
            variant["sparsity"] = "2:4" if self.often(0.3) else "Dense"
            if self.often(0.15):
                variant["accuracy"].insert(0, _figure(base + 5, "Claimed"))
            if self.often(0.05):
                variant["accuracy"] = [row | {"basis": "Unknown"} for row in variant["accuracy"]]
            self._codecs(variant, base)
            if self.often(0.5):
                self._exit(variant, base)

    def _codecs(self, variant: Body, base: float) -> None:
        for block in variant["blocks"]:
            if "cut" in block and self.often(0.8):
                elements = block["cut"]["tensors"][0]["shape"][1]
                block["cut"]["codecs"] = [
                    codec(
                        name,
                        elements=round(elements * self.chance.choice((0.0, 0.1, 0.5))),
                        mop=self.chance.choice((0, 1, 3, 10)),
                        accuracy=self._accuracy(base, (0, 1, 3, 3, -1)),
                    )
                    for name in ("half", "tiny")[: self.chance.choice((1, 2))]
                ]

    def _exit(self, variant: Body, base: float) -> None:
        after = self.chance.choice(variant["blocks"])["name"]
        variant["exits"] = [
            exit_head("early", after=after, mop=self.chance.randint(1, 20), accuracy=self._accuracy(base, (1, 4, 15)))
        ]

    def _accuracy(self, base: float, losses: tuple[int, ...]) -> float | None:
        return base - self.chance.choice(losses) if self.often(0.85) else None


class _Measured(_Part):
    def __call__(self, body: Body) -> None:
        for span in body["spec"]["spans"]:
            if self.often(0.8):
                span["energy"] = f"{self.chance.randint(10, 900)}mJ"


class _Wanted(_Part):
    """Change what the mission asks for: some must be split, some allow everything, some are unchanged."""

    def __call__(self, body: Body) -> None:
        spec = body["spec"]
        if self.often(0.2):
            role = "any" if self.often(0.15) else "camera"
            spec["input"] = {"selector": {"role": role}}
        if self.often(0.15):
            spec["model"]["variants"] = [self.chance.choice(("fp32", "int8"))]
        if self.often(0.25):
            spec["demand"] = {"rate": self.chance.choice(("15/s", "25/s"))}
        if self.often(0.35):
            spec |= {"egress": {"input": "Device", "features": self.chance.choice(("Any", "Any", "Site"))}}
            spec |= {"modes": ["Split"]}
        elif self.often(0.5):
            spec |= {"egress": {"input": "Any", "features": "Any"}, "modes": ["Local", "Split", "Remote"]}
        if self.often(0.4):
            floor = {"metric": "top-1", "dataset": "d", "atLeast": f"{self.chance.randint(45, 75)}%"}
            spec["objectives"]["accuracy"] = floor | {"enforcement": self.chance.choice(("Hard", "Soft"))}
            if self.often(0.5):
                share = {
                    "atLeast": f"{self.chance.randint(80, 100)}%",
                    "relativeTo": self.chance.choice(("fp32", "int8")),
                }
                spec["objectives"]["accuracy"] |= share
        if self.often(0.4):
            spec["model"]["updatedEvery"] = self.chance.choice(("2m", "1h"))


class _State(_Part):
    def __call__(self, body: Body) -> None:
        if self.often(0.4):
            body["spec"]["powerCap"] = f"{self.chance.choice((1, 3, 8, 8, 20, 20))}W"
        status = body.setdefault("status", {})
        if self.often(0.1):
            status["units"] = [{"name": "acc/npu", "allocatable": {"memory": f"{self.chance.randint(2, 12)}Mi"}}]
        if self.often(0.3):
            status["conditions"] = [{"type": "Ready", "status": "True", "reason": "Drawn"}]
        if "inventory" in status and self.often(0.5):
            status["inventory"]["powerMode"] = "eco"


def _node(chance: Random, node: NodeFacts) -> NodeFacts:
    labels = {"role": "camera" if node.name == "drone" else "server"}
    if chance.random() < 0.05:
        labels = {"role": "any"}
    return replace(
        node,
        tier=chance.choice((Tier.DEVICE, Tier.EDGE, Tier.CLOUD)),
        labels=labels,
    )


def _with_host(chance: Random, found: Snapshot, name: str) -> Snapshot:
    """Return the problem with a CPU on a node; without a runtime for the model it can still run codecs."""
    gops, watts = chance.randint(1, 8), chance.randint(1, 9)
    unit = {
        "name": "cpu",
        "type": "CPU",
        "peak": [{"precision": "fp32", "rate": f"{gops}GOPS", "basis": chance.choice(("Claimed", "Measured"))}],
        "efficiency": [{"precision": "fp32", "value": "50%", "basis": "Claimed"}],
        "memory": [{"kind": "Shared", "size": f"{chance.randint(4, 20)}Mi", "basis": "Measured"}],
        "power": [{"state": "Typical", "value": f"{watts}W", "basis": "Claimed"}] if chance.random() < 0.8 else [],
        "runtimes": [{"name": "onnxruntime", "formats": ["onnx"]}] if chance.random() < 0.5 else [],
    }
    body = {"metadata": meta(f"host-{name}"), "spec": {"vendor": "v", "product": "host", "computeUnits": [unit]}}
    host = DeviceProfile.model_validate(body)

    def own(device: Body) -> None:
        device.setdefault("status", {})["inventory"] = {"host": {"profile": host.metadata.name}}

    devices = {**found.devices, name: changed(found.devices[name], own)}
    return replace(found, profiles={**found.profiles, host.metadata.name: host}, devices=devices)


def _links(chance: Random, found: Snapshot) -> dict[str, Link]:
    """Return links by node, half of them slow, and additional ones by site and tier."""

    def slow_down(body: Body) -> None:
        body["spec"]["bandwidth"] = f"{chance.randint(4, 30)}Mbit/s"

    kept = {key: each for key, each in found.links.items() if chance.random() < 0.8}
    made = {key: changed(each, slow_down) if chance.random() < 0.5 else each for key, each in kept.items()}
    places: dict[str, Body] = {"field": {"site": "field"}, "yard": {"site": "yard"}, "drone": {"node": "drone"}}
    places |= {tier: {"tier": tier} for tier in ("Device", "Edge", "Cloud")}
    for name, share in _PAIRS.items():
        if chance.random() < share:
            one, other = name.split("-")
            spec = {
                "between": [places[one], places[other]],
                "bandwidth": f"{chance.choice((3, 20, 200))}Mbit/s",
                "roundTrip": f"{chance.randint(0, 9)}ms",
                "metered": chance.random() < 0.5,
            }
            spec |= {"energyPerByte": f"{chance.randint(10, 5000)}nJ"} if chance.random() < 0.3 else {}
            made[name.lower()] = Link.model_validate({"metadata": meta(name.lower()), "spec": spec})
    return made


_PAIRS = {
    "field-yard": 0.5, "field-field": 0.4, "yard-yard": 0.3, "drone-field": 0.15, "drone-yard": 0.2, "drone-Edge": 0.2,
    "Device-Edge": 0.3, "Device-Cloud": 0.2, "Edge-Cloud": 0.3, "Edge-Edge": 0.2, "yard-Cloud": 0.2,
}  # fmt: skip
