"""What there is: units that are up, the node where data is born, the forms of a model. No code of the planner."""

from collections.abc import Iterator

from maleo_api.device import ComputeUnit, DeviceProfileSpec
from maleo_api.mission import Mission
from maleo_api.model import Block, Model, Variant
from maleo_api.quantities import BYTES, parse
from maleo_planner.types.problem import NodeFacts, Snapshot
from support.oracle import datasheet


def list_units(snapshot: Snapshot) -> Iterator[tuple[NodeFacts, str, str, ComputeUnit, DeviceProfileSpec]]:
    """Node, name, profile, unit as it is in the present power mode, and what it is part of; what is ready only."""
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
    """Bytes: what the node says is there, else what the profile states."""
    for device in snapshot.devices.values():
        for row in device.status.units if device.spec.node_name == spot[0] else ():
            if row.name == spot[1] and row.allocatable and row.allocatable.memory:
                return parse(BYTES, row.allocatable.memory)
    return datasheet.size(unit)


def find_sources(snapshot: Snapshot, mission: Mission) -> list[NodeFacts]:
    """Where the data may be born: there is an input where it is one node, and that is ready."""
    named, selector = mission.spec.input.node, mission.spec.input.selector or {}
    found = [
        node
        for node in snapshot.nodes.values()
        if node.name == named or (named is None and selector and selector.items() <= node.labels.items())
    ]
    return found if len(found) == 1 and found[0].ready else []


def editions(model: Model) -> Iterator[tuple[Variant, str]]:
    """Each variant whole, and as far as each exit: its head is the last block, and its accuracy what it reaches."""
    for variant in model.spec.variants:
        yield variant, ""
        names = [block.name for block in variant.blocks]
        for each in variant.exits:
            head = Block(name=each.name, work=each.work, parameters=each.parameters, activations=each.activations)
            blocks = [*variant.blocks[: names.index(each.after) + 1], head]
            yield variant.model_copy(update={"blocks": blocks, "accuracy": each.accuracy}), each.name
