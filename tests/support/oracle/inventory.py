"""Available units, input nodes, and variants of a model."""

from collections.abc import Iterator

from maleo_api.device import ComputeUnit, DeviceProfileSpec
from maleo_api.mission import Mission
from maleo_api.model import Block, Model, Variant
from maleo_api.quantities import BYTES, parse
from maleo_planner.types.problem import NodeFacts, Snapshot
from support.oracle import datasheet


def list_units(snapshot: Snapshot) -> Iterator[tuple[NodeFacts, str, str, ComputeUnit, DeviceProfileSpec]]:
    """Yield (node, name, profile, unit in the present power mode, device) of each available unit."""
    for _, device in sorted(snapshot.devices.items()):
        node, inventory = snapshot.nodes[device.spec.node_name], device.status.inventory
        down = {row.name for row in device.status.units if row.state == "Unavailable"}
        ready = all(c.status == "True" for c in device.status.conditions if c.type == "Ready")
        if not (node.ready and node.schedulable and ready):
            continue
        host = [("host", inventory.host.profile)] if inventory else []
        for name, profile in [*host, *((d.name, d.profile) for d in device.spec.declared)]:
            for unit in snapshot.profiles[profile].spec.compute_units if profile in snapshot.profiles else ():
                if f"{name}/{unit.name}" not in down:
                    mode = inventory.power_mode if inventory else ""
                    yield (
                        node,
                        f"{name}/{unit.name}",
                        profile,
                        datasheet.in_mode(unit, mode),
                        snapshot.profiles[profile].spec,
                    )


def memory(snapshot: Snapshot, spot: tuple[str, str], unit: ComputeUnit) -> float:
    """Return the bytes of a unit's memory: as its node reports, else as its profile states."""
    for device in snapshot.devices.values():
        for row in device.status.units if device.spec.node_name == spot[0] else ():
            if row.name == spot[1] and row.allocatable and row.allocatable.memory:
                return parse(BYTES, row.allocatable.memory)
    return datasheet.size(unit)


def find_sources(snapshot: Snapshot, mission: Mission) -> list[NodeFacts]:
    """Return the nodes that match the mission's input; only a single, ready one is valid."""
    named, selector = mission.spec.input.node, mission.spec.input.selector or {}
    found = [
        node
        for node in snapshot.nodes.values()
        if node.name == named or (named is None and selector and selector.items() <= node.labels.items())
    ]
    return found if len(found) == 1 and found[0].ready else []


def list_variants(model: Model) -> Iterator[tuple[Variant, str]]:
    """Yield each variant as a whole, and cut at each exit, whose head is then the last block."""
    for variant in model.spec.variants:
        yield variant, ""
        names = [block.name for block in variant.blocks]
        for each in variant.exits:
            head = Block(name=each.name, work=each.work, parameters=each.parameters, activations=each.activations)
            blocks = [*variant.blocks[: names.index(each.after) + 1], head]
            yield variant.model_copy(update={"blocks": blocks, "accuracy": each.accuracy}), each.name
