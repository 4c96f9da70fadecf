"""DeviceProfile (a catalogue entry), Device (one node's hardware and its state), Link (bandwidth between places)."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from maleo_api.meta import Basis, Condition, Form, Name, Resource, Schema, Text, Tier
from maleo_api.quantities import (
    Bandwidth,
    Bytes,
    ComputeRate,
    Duration,
    EnergyPerByte,
    Power,
    Price,
    Ratio,
    Throughput,
)

UnitType = Literal["CPU", "GPU", "NPU", "DLA", "DSP"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
Sparsity = Literal["Dense", "2:4", "Unstructured"]
ShortText = Annotated[str, StringConstraints(max_length=128)]


class Peak(Schema):
    precision: Precision | None = None
    """None: the source does not say. Shown side by side with others, never planned with."""
    sparsity: Sparsity = "Dense"
    """Another than Dense counts only for variants that declare this sparsity."""
    rate: ComputeRate
    power_mode: ShortText = ""
    """The device's power mode that it holds in; empty = any."""
    basis: Basis
    source: Text = ""


class Efficiency(Schema):
    """Which part of the peak real networks reach."""

    precision: Precision
    sparsity: Sparsity = "Dense"
    """Of which peak it is the share."""
    value: Ratio
    basis: Basis
    source: Text = ""


class Memory(Schema):
    kind: Literal["OnChip", "Dedicated", "Shared"]
    size: Bytes | None = None
    bandwidth: Throughput | None = None
    power_mode: ShortText = ""
    """The device's power mode that it holds in; empty = any."""
    basis: Basis
    source: Text = ""


class PowerFigure(Schema):
    """No row for a state means Unknown, and Unknown never beats a known figure."""

    state: Literal["Idle", "Minimum", "Typical", "Peak"]
    """Minimum and Peak: also the ends of a stated range, or of the power modes."""
    value: Power
    power_mode: ShortText = ""
    """The device's power mode that it holds in; empty = any."""
    basis: Basis
    source: Text = ""


class Reconfiguration(Schema):
    """How long a Reconfigurable unit takes to change from one model to another."""

    time: Duration
    basis: Basis
    source: Text = ""


class AccuracyTolerance(Schema):
    """By how much an Analog unit may miss the accuracy that a model was measured to have."""

    value: Ratio
    basis: Basis
    source: Text = ""


class WeightWriting(Schema):
    """What it takes to put a model's weights into an Analog unit: how fast, and at how much energy."""

    throughput: Throughput | None = None
    energy_per_byte: EnergyPerByte | None = None
    basis: Basis
    source: Text = ""


class PriceFigure(Schema):
    value: Price
    basis: Basis
    source: Text = ""


class Runtime(Schema):
    name: ShortText
    version: Annotated[
        str,
        StringConstraints(pattern=r"^((>=)?[0-9]+(\.[0-9]+){0,3}|[0-9]+(\.[0-9]+){0,2}\.x)?$", max_length=32),
        Form("version", "5.2.0, 4.x or >=4.17"),
    ] = ""
    """What is installed: `5.2.0`, a series `4.x`, or `>=4.17`; empty = unknown, which satisfies no required version."""
    formats: Annotated[list[ShortText], Field(max_length=16)]
    providers: Annotated[list[ShortText], Field(max_length=16)] = []
    """ONNX Runtime execution providers by which this unit is driven; empty = the CPU provider."""


class Access(Schema):
    resource: ShortText = ""
    """Extended resource that a slot requests, where a device plugin advertises one."""
    sharing: Literal["Exclusive", "TimeShared"] = "TimeShared"


class ComputeUnit(Schema):
    name: Name
    type: UnitType
    peak: Annotated[list[Peak], Field(max_length=16)] = []
    efficiency: Annotated[list[Efficiency], Field(max_length=16)] = []
    memory: Annotated[list[Memory], Field(max_length=8)] = []
    power: Annotated[list[PowerFigure], Field(max_length=16)] = []
    overhead: Duration | None = None
    """Fixed time of one launch (one span), beside the roofline."""
    reconfiguration: Annotated[list[Reconfiguration], Field(max_length=4)] = []
    """None for a unit with the feature Reconfigurable = unknown: then two models never take turns on it."""
    accuracy_tolerance: Annotated[list[AccuracyTolerance], Field(max_length=4)] = []
    """None for a unit with the feature Analog = unknown, which keeps no Hard accuracy."""
    weight_writing: Annotated[list[WeightWriting], Field(max_length=4)] = []
    """No energy for a unit with the feature Analog = unknown: so is then that of models which are updated."""
    features: Annotated[list[ShortText], Field(max_length=16)] = []
    """What it can do beyond computing, such as LLM, ISP, Sparsity; Analog and Reconfigurable have their own rules."""
    runtimes: Annotated[list[Runtime], Field(max_length=16)] = []
    access: Access = Access()


class Detection(Schema):
    """What the agent matches on a host; `declared` hardware has nothing to detect.

    Ids are `vendor:device`, or `vendor:*`.
    """

    pci: Annotated[list[ShortText], Field(max_length=16)] = []
    usb: Annotated[list[ShortText], Field(max_length=16)] = []
    device_tree: Annotated[list[ShortText], Field(max_length=16)] = []
    device_nodes: Annotated[list[ShortText], Field(max_length=16)] = []


class DeviceProfileSpec(Schema):
    vendor: ShortText
    product: ShortText
    form_factor: ShortText = ""
    compiler: ShortText = ""
    """The vendor's program that makes artefacts for it; shown in the catalogue."""
    os: Annotated[list[ShortText], Field(max_length=8)] = []
    """Operating systems that its driver is there for; empty = unknown, which satisfies no required one."""
    price: Annotated[list[PriceFigure], Field(max_length=4)] = []
    """None = unknown, which is dearer than any known price."""
    targets: Annotated[list[ShortText], Field(max_length=16)] = []
    """Uses that it is made for: missions may prefer one; never a condition."""
    compute_units: Annotated[list[ComputeUnit], Field(min_length=1, max_length=8)]
    detection: Detection = Detection()


class DeviceProfile(Resource):
    kind: Literal["DeviceProfile"] = "DeviceProfile"
    spec: DeviceProfileSpec


class DeclaredAccelerator(Schema):
    name: Name
    profile: Name
    simulated: bool = False
    """True: no such hardware is there; slots are paced to the profile and every figure says Simulated."""


class DeviceSpec(Schema):
    node_name: Name
    power_cap: Power | None = None
    declared: Annotated[list[DeclaredAccelerator], Field(max_length=8)] = []


class HostInventory(Schema):
    profile: Name


class Accelerator(Schema):
    name: Name
    profile: Name
    address: ShortText = ""
    simulated: bool = False


class Inventory(Schema):
    """What the agent of this node found; written by it alone."""

    host: HostInventory
    accelerators: Annotated[list[Accelerator], Field(max_length=8)] = []
    power_mode: ShortText = "default"
    """Figures of the profile that are stated for this mode hold. No driver reads it yet: agents leave it out."""
    simulated: bool = False


class Allocatable(Schema):
    memory: Bytes | None = None


class UnitStatus(Schema):
    """A compute unit of this node; `name` is `<accelerator>/<unit>`, or `host/cpu`."""

    name: ShortText
    allocatable: Allocatable | None = None
    """Absent when nothing limits the unit as far as known."""
    state: Literal["Available", "Unavailable"] = "Available"


class DeviceStatus(Schema):
    tier: Tier | None = None
    site: ShortText = ""
    inventory: Inventory | None = None
    units: Annotated[list[UnitStatus], Field(max_length=16)] = []
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    observed_generation: int = 0


class Device(Resource):
    kind: Literal["Device"] = "Device"
    spec: DeviceSpec
    status: DeviceStatus = DeviceStatus()


class Place(Schema):
    """One end of a Link; exactly one of the three."""

    node: Name | None = None
    site: ShortText | None = None
    tier: Tier | None = None


class LinkSpec(Schema):
    between: Annotated[list[Place], Field(min_length=2, max_length=2)]
    bandwidth: Bandwidth | None = None
    """In each direction; up and down instead where they differ."""
    up: Bandwidth | None = None
    """From the first place of between to the second."""
    down: Bandwidth | None = None
    """From the second place of between to the first."""
    round_trip: Duration
    energy_per_byte: EnergyPerByte | None = None
    metered: bool = False


class MeasuredLink(Schema):
    """A band, not a sample: it changes when the measured figure leaves it. Nothing writes it yet: what slots measure
    corrects the links inside the operator.
    """

    bandwidth: Bandwidth | None = None
    round_trip: Duration | None = None
    basis: Basis


class LinkStatus(Schema):
    measured: MeasuredLink | None = None
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    observed_generation: int = 0


class Link(Resource):
    kind: Literal["Link"] = "Link"
    spec: LinkSpec
    status: LinkStatus = LinkStatus()
