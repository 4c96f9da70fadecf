"""DeviceProfile (a type of hardware), Device (hardware and state of one node), Link (a network connection)."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from maleo_api.meta import Basis, Condition, Name, Resource, Schema, Text, TextFormat, Tier
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
    """Peak compute rate of a unit at one precision and sparsity, as one source states it."""

    precision: Precision | None = None
    """Precision that the rate holds for. Left out: the source does not state it; the row is shown in the catalogue and
    planning ignores it."""
    sparsity: Sparsity = "Dense"
    """Sparsity of the weights that the rate holds for. Default: `Dense`. A sparse rate counts only for model variants
    with the same sparsity; a sparse variant is planned with the dense rate where there is no sparse one."""
    rate: ComputeRate
    """Peak rate in operations per second, such as `26TOPS` or `13GFLOPS`. Planning multiplies it by the efficiency to
    predict compute time."""
    power_mode: ShortText = ""
    """Power mode of the device that the rate holds in, such as `super`. Empty, the default: every mode that has no row
    of its own."""
    basis: Basis
    source: Text = ""
    """Document or method that the figure comes from. It is shown in the catalogue and influences no decision. Empty,
    the default: not stated."""


class Efficiency(Schema):
    """Share of the peak rate that real networks reach at one precision and sparsity, as one source states it."""

    precision: Precision
    """Precision of the peak rate that the share refers to."""
    sparsity: Sparsity = "Dense"
    """Sparsity of the peak rate that the share refers to. Default: `Dense`."""
    value: Ratio
    """Share of the peak rate, such as `60%`; above zero and at most `100%`."""
    basis: Basis
    source: Text = ""
    """Document or method that the figure comes from. It is shown in the catalogue and influences no decision. Empty,
    the default: not stated."""


class Memory(Schema):
    """Memory of a compute unit, as one source states it. Size and bandwidth may be given in separate rows."""

    kind: Literal["OnChip", "Dedicated", "Shared"]
    """`Dedicated`: memory of the device itself. `Shared`: shared with the host or other units. `OnChip`: memory on the
    chip. Planning uses the kind that has a size: `Dedicated` before `Shared` before `OnChip`."""
    size: Bytes | None = None
    """Capacity, such as `4Gi`: limits the weights and activations that planning places on the unit. If no row states a
    size, planning assumes no limit."""
    bandwidth: Throughput | None = None
    """Memory bandwidth, such as `17GB/s`: limits the predicted speed of layers that move many bytes per operation. If
    no row for the memory in use states it, planning predicts the time from the compute rate alone."""
    power_mode: ShortText = ""
    """Power mode of the device that the figures hold in, such as `super`. Empty, the default: every mode that has no
    row of its own."""
    basis: Basis
    source: Text = ""
    """Document or method that the figure comes from. It is shown in the catalogue and influences no decision. Empty,
    the default: not stated."""


class PowerFigure(Schema):
    """Power draw of a compute unit in one state, as one source states it."""

    state: Literal["Idle", "Minimum", "Typical", "Peak"]
    """State that the power holds for. `Typical`: while the unit computes; planning predicts energy with it. `Idle`: the
    agent computes the power of simulated units with it. `Minimum` and `Peak`: a stated range, for information only."""
    value: Power
    """Power, such as `2.5W` or `300mW`."""
    power_mode: ShortText = ""
    """Power mode of the device that the figure holds in, such as `super`. Empty, the default: every mode that has no
    row of its own."""
    basis: Basis
    source: Text = ""
    """Document or method that the figure comes from. It is shown in the catalogue and influences no decision. Empty,
    the default: not stated."""


class Reconfiguration(Schema):
    """Time that a reconfigurable unit takes to change from one model to another, as one source states it."""

    time: Duration
    """Duration of one change, such as `200ms`. Where models take turns on the unit, planning adds it to the compute
    time of every request."""
    basis: Basis
    source: Text = ""
    """Document or method that the figure comes from. It is shown in the catalogue and influences no decision. Empty,
    the default: not stated."""


class AccuracyTolerance(Schema):
    """Loss of accuracy that must be expected on an analog unit, as one source states it."""

    value: Ratio
    """Percentage points below the accuracy that the Model states, such as `2%`. Planning subtracts it from the accuracy
    of a plan; of several units in one plan the largest value counts."""
    basis: Basis
    source: Text = ""
    """Document or method that the figure comes from. It is shown in the catalogue and influences no decision. Empty,
    the default: not stated."""


class WeightWriting(Schema):
    """Cost of writing the weights of a model into an analog unit. At least one of the two figures is required."""

    throughput: Throughput | None = None
    """Bytes of weights written per second, such as `2MB/s`, for the predicted time of changing to a plan. Left out, or
    above 150MB/s: planning takes 150MB/s, its figure for loading weights on other units."""
    energy_per_byte: EnergyPerByte | None = None
    """Energy for each byte of weights, such as `3uJ`: planning shares it among the inferences between two updates of a
    model (`updatedEvery` of the mission). If no row states it, it is unknown on a unit with the feature `Analog`."""
    basis: Basis
    source: Text = ""
    """Document or method that the figure comes from. It is shown in the catalogue and influences no decision. Empty,
    the default: not stated."""


class PriceFigure(Schema):
    """Price of the whole device, as one source states it."""

    value: Price
    """Price in US dollars, such as `69USD`."""
    basis: Basis
    source: Text = ""
    """Document or method that the figure comes from. It is shown in the catalogue and influences no decision. Empty,
    the default: not stated."""


class Runtime(Schema):
    """Inference runtime that drives a compute unit. A model variant runs only where its requirements are met."""

    name: ShortText
    """Name of the runtime, such as `onnxruntime`: must equal `requires.runtime` of a model variant."""
    version: Annotated[
        str,
        StringConstraints(pattern=r"^((>=)?[0-9]+(\.[0-9]+){0,3}|[0-9]+(\.[0-9]+){0,2}\.x)?$", max_length=32),
        TextFormat("version", "5.2.0, 4.x or >=4.17"),
    ] = ""
    """Installed version: exact (`5.2.0`), a series (`4.x`) or a minimum (`>=4.17`). Empty, the default: unknown, which
    satisfies no variant that requires a version."""
    formats: Annotated[list[ShortText], Field(max_length=16)]
    """Artifact formats that the runtime loads on this unit, such as `onnx`. A variant needs an artifact in one of
    them."""
    providers: Annotated[list[ShortText], Field(max_length=16)] = []
    """ONNX Runtime execution providers for this unit in order of preference, such as `CUDAExecutionProvider`. The CPU
    provider is always the last resort, and the only one if the list is empty, the default."""


class Access(Schema):
    """How the pods of missions get access to a compute unit.

    Left out: missions share it, and pods request no resource.
    """

    resource: ShortText = ""
    """Extended resource of a device plugin, such as `npu.intel.com/npu`: every pod that uses the unit requests one.
    Empty, the default: nothing is requested. Simulated devices request nothing."""
    sharing: Literal["Exclusive", "TimeShared"] = "TimeShared"
    """`TimeShared`, the default: missions share the unit, and planning adds the time that their requests wait for each
    other. `Exclusive`: planning gives the unit to one mission at a time."""


class ComputeUnit(Schema):
    """A processor of the device that can run a partition of a model, with the figures that planning predicts with.

    Where rows for the same figure conflict, planning uses the first row with the strongest basis.
    """

    name: Name
    """Name of the unit, unique within the profile, such as `npu`. A ModelProfile refers to the unit by it, and a Device
    lists the unit as `<accelerator>/<name>`."""
    type: UnitType
    """Type of processor. Planning runs codecs on the `CPU` unit of a node; nodes with an `NPU` or `DLA` unit get labels
    `maleo.dev/npu*`; metrics of the node agent carry the type as a label."""
    peak: Annotated[list[Peak], Field(max_length=16)] = []
    """Peak compute rates. Where none is stated for the precision of a model variant, the variant can run on the unit
    only if a ModelProfile holds measurements of it there."""
    efficiency: Annotated[list[Efficiency], Field(max_length=16)] = []
    """Shares of the peak rates that real networks reach. Where none is stated for a precision and sparsity, planning
    assumes 30% of the peak, with a relative standard deviation of 30%."""
    memory: Annotated[list[Memory], Field(max_length=8)] = []
    """Memory that the unit can use. Empty, the default: planning limits neither size nor bandwidth."""
    power: Annotated[list[PowerFigure], Field(max_length=16)] = []
    """Power draw by state. Without a `Typical` row the energy of an inference is unknown unless a ModelProfile states
    it; an unknown energy satisfies no Hard energy objective and no `powerCap` of a Device."""
    overhead: Duration | None = None
    """Fixed time of one launch, such as `200us`, which planning adds once for each partition. Left out: none."""
    reconfiguration: Annotated[list[Reconfiguration], Field(max_length=4)] = []
    """Time to change from one model to another. Empty, the default: on a unit with the feature `Reconfigurable` it is
    unknown and planning never lets two models share the unit; on any other unit a change takes no time."""
    accuracy_tolerance: Annotated[list[AccuracyTolerance], Field(max_length=4)] = []
    """Loss of accuracy on this unit. Empty, the default: on a unit with the feature `Analog` it is unknown, which
    satisfies no Hard accuracy objective; on any other unit there is no loss."""
    weight_writing: Annotated[list[WeightWriting], Field(max_length=4)] = []
    """Cost of writing weights. Empty, the default: on a unit with the feature `Analog` the energy of missions with
    `updatedEvery` is unknown; on any other unit writing costs no energy."""
    features: Annotated[list[ShortText], Field(max_length=16)] = []
    """Capabilities, such as `LLM` or `ISP`. A unit must list all features that a model variant requires; missions may
    prefer some. `Analog` and `Reconfigurable` decide what it means that accuracyTolerance, weightWriting or
    reconfiguration is empty."""
    runtimes: Annotated[list[Runtime], Field(max_length=16)] = []
    """Runtimes that drive the unit. Empty, the default: no model can run on it."""
    access: Access = Access()


class Detection(Schema):
    """IDs by which node agents detect the hardware.

    Without them the spec of a Device must declare it; only `host-cpu`, the default profile of hosts, needs neither.
    """

    pci: Annotated[list[ShortText], Field(max_length=16)] = []
    """PCI IDs as hexadecimal `vendor:device`, such as `1e60:2864`, or `vendor:*` for every device of the vendor. Each
    matching function becomes an accelerator of the node. Empty, the default: not detected on the PCI bus."""
    usb: Annotated[list[ShortText], Field(max_length=16)] = []
    """USB IDs as hexadecimal `vendor:product`, such as `18d1:9302`, or `vendor:*`. Each matching device becomes an
    accelerator of the node. Empty, the default: not detected on the USB bus."""
    device_tree: Annotated[list[ShortText], Field(max_length=16)] = []
    """`compatible` strings of boards, such as `nvidia,p3701-0005`. A node whose board has one of them gets this profile
    as the profile of its host. Empty, the default: the profile is not chosen by the board."""
    device_nodes: Annotated[list[ShortText], Field(max_length=16)] = []
    """Device files of the driver, such as `/dev/hailo*`. For information in the catalogue; detection ignores them.
    Empty, the default: unknown."""


class DeviceProfileSpec(Schema):
    """Identity, compute units and detection of one type of hardware."""

    vendor: ShortText
    """Manufacturer. Shown by `kubectl get`; nodes with an NPU or DLA get it as the label `maleo.dev/npu-vendor`."""
    product: ShortText
    """Product name. Shown by `kubectl get`; nodes with an NPU or DLA get it as the label `maleo.dev/npu-product`."""
    form_factor: ShortText = ""
    """Form factor, such as `SoM`, `M.2` or `PCIe`. For information in `kubectl get` and the catalogue; empty, the
    default: unknown."""
    compiler: ShortText = ""
    """Vendor's compiler that builds artifacts for the hardware, such as `Hailo Dataflow Compiler`. For information in
    the catalogue; empty, the default: unknown."""
    os: Annotated[list[ShortText], Field(max_length=8)] = []
    """Operating systems that a driver exists for, such as `Linux`. A model variant that requires one runs only where it
    is listed. Empty, the default: unknown, which satisfies no requirement."""
    price: Annotated[list[PriceFigure], Field(max_length=4)] = []
    """Price of the device, which ranks otherwise equal plans of missions with `preference.cheaper`. Empty, the default:
    unknown, which ranks behind every known price."""
    targets: Annotated[list[ShortText], Field(max_length=16)] = []
    """Applications that the hardware is made for, such as `camera`. They rank otherwise equal plans of missions with
    `preference.targets` and never decide whether a plan is feasible. Empty, the default: none."""
    compute_units: Annotated[list[ComputeUnit], Field(min_length=1, max_length=8)]
    """Processors of the device that can run partitions of models."""
    detection: Detection = Detection()


class DeviceProfile(Resource):
    """A type of hardware: its compute units, what they can do and how they are detected.

    The chart installs a catalogue, and administrators add profiles of their own. Node agents detect hardware by it; the
    operator plans with its figures, labels nodes and requests device plugin resources by it.
    """

    kind: Literal["DeviceProfile"] = "DeviceProfile"
    spec: DeviceProfileSpec


class DeclaredAccelerator(Schema):
    """Hardware that is stated by an administrator instead of detected by the node agent."""

    name: Name
    """Name of the accelerator on this node, such as `accel`; its units are called `<name>/<unit>`. The name `host`
    stands for the host itself and sets its profile."""
    profile: Name
    """Name of the DeviceProfile. Unless simulated, accelerators that the agent detects by the same profile are left out
    of the inventory."""
    simulated: bool = False
    """True: the hardware does not exist. Models run on the host's CPU, paced to the figures of the profile, and what is
    reported of them has basis `Simulated`. Default: false."""


class DeviceSpec(Schema):
    """What an administrator states about a node; all but the name of the node is optional."""

    node_name: Name
    """Name of the Node. It must also be the name of this Device; a node has one Device."""
    power_cap: Power | None = None
    """Upper limit for the power that all missions together add to the node (request rate times energy per inference),
    such as `12W`. Planning places nothing of unknown energy on a node with a cap. Left out: no limit."""
    declared: Annotated[list[DeclaredAccelerator], Field(max_length=8)] = []
    """Hardware that the agent cannot detect, and simulated hardware. An entry replaces detected hardware of the same
    name. Empty, the default: only detected hardware is used."""


class HostInventory(Schema):
    """The host itself, with its CPU as the compute unit `host/cpu`."""

    profile: Name
    """Name of its DeviceProfile: the one declared under the name `host`, else the first that matches the device tree,
    else `host-cpu`."""


class Accelerator(Schema):
    """One accelerator of the node."""

    name: Name
    """Name on this node: as declared, or `<profile>-<number>` if detected. Its units are called `<name>/<unit>`."""
    profile: Name
    """Name of its DeviceProfile."""
    address: ShortText = ""
    """Address on the PCI or USB bus, such as `0000:01:00.0`, for information. Empty if declared."""
    simulated: bool = False
    """True if the spec declares it as simulated."""


class Inventory(Schema):
    """Hardware of the node, as its agent detected it or the spec declares it. Only the agent writes it."""

    host: HostInventory
    accelerators: Annotated[list[Accelerator], Field(max_length=8)] = []
    """Declared accelerators, then detected ones."""
    power_mode: ShortText = "default"
    """Power mode of the device: planning uses the figures that profiles state for it. Agents report `default`, because
    no driver reads the mode yet."""
    simulated: bool = False
    """True if the host or an accelerator is simulated. For information."""


class Allocatable(Schema):
    """Capacity of a compute unit that missions can use. Absent: no limit is known."""

    memory: Bytes | None = None
    """Memory for models, such as `4Gi`: the size in the profile, of `Dedicated` before `Shared` before `OnChip` memory.
    Planning places no more on the unit."""


class UnitStatus(Schema):
    """A compute unit of the node."""

    name: ShortText
    """Name of the unit on the node: `<accelerator>/<unit>`, or `host/<unit>` for the host, such as `host/cpu`."""
    allocatable: Allocatable | None = None
    state: Literal["Available", "Unavailable"] = "Available"
    """Planning uses only `Available` units, and missions are moved off all others. The operator reports `Available` for
    every unit that it lists; a unit that is gone has no entry."""


class DeviceStatus(Schema):
    """Observed hardware and state of the node.

    The agent writes the inventory and the conditions of its sensors, the operator everything else.
    """

    tier: Tier | None = None
    """Value of the node label `maleo.dev/tier`, shown by `kubectl get`. Absent if the node is gone or the value is not
    valid."""
    site: ShortText = ""
    """Value of the node label `maleo.dev/site`, shown by `kubectl get`. Empty without the label."""
    inventory: Inventory | None = None
    units: Annotated[list[UnitStatus], Field(max_length=16)] = []
    """Compute units of the host and its accelerators, as far as their DeviceProfiles exist."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """`Ready`: planning uses the device only while it is True. `TelemetryFresh`: the agent sends readings.
    `ThermallyStable`: no unit runs below its normal speed. `BatterySufficient`: only where a battery level is read."""
    observed_generation: int = 0
    """Generation of the Device that the operator wrote this status for."""


class Device(Resource):
    """The compute hardware of one node: what is installed, what missions can use of it and whether it is ready.

    The operator creates one for every Node with the label `maleo.dev/tier`. Administrators may edit the spec; the node
    agent and the operator write the status, and planning reads both.
    """

    kind: Literal["Device"] = "Device"
    spec: DeviceSpec
    status: DeviceStatus = DeviceStatus()


class Place(Schema):
    """One end of a Link: exactly one of node, site and tier."""

    node: Name | None = None
    """Name of one Node. Left out: site or tier is required."""
    site: ShortText | None = None
    """All nodes with this value of the label `maleo.dev/site`. Left out: node or tier is required."""
    tier: Tier | None = None
    """All nodes with this value of the label `maleo.dev/tier`: `Device`, `Edge` or `Cloud`. Left out: node or site is
    required."""


class LinkSpec(Schema):
    """Ends and properties of a network connection."""

    between: Annotated[list[Place], Field(min_length=2, max_length=2)]
    """The two ends. Twice the same site: the network inside that site. Where several Links join two nodes, the most
    specific one counts (node before site before tier; of equals the first by name)."""
    bandwidth: Bandwidth | None = None
    """Bandwidth in each direction, such as `100Mbit/s`. Planning starts from it and corrects it by what slots measure.
    Left out: up and down are required, for a link with different bandwidths in its two directions."""
    up: Bandwidth | None = None
    """Bandwidth from the first end to the second, such as `20Mbit/s`. Set it together with down, without bandwidth."""
    down: Bandwidth | None = None
    """Bandwidth from the second end to the first, such as `80Mbit/s`. Set it together with up, without bandwidth."""
    round_trip: Duration
    """Round-trip time without load, such as `30ms`. Planning adds it to every request that crosses the link."""
    energy_per_byte: EnergyPerByte | None = None
    """Energy to transfer one byte, such as `80nJ`. Planning adds it to the energy of every request that crosses the
    link. Left out: none."""
    metered: bool = False
    """True if the traffic is billed by volume, as on a mobile connection. Shown by `kubectl get`; planning does not use
    it. Default: false."""


class MeasuredLink(Schema):
    """Measured figures of the link.

    Nothing writes them yet: the operator plans with what slots measure without publishing it here.
    """

    bandwidth: Bandwidth | None = None
    """Measured bandwidth, such as `85Mbit/s`."""
    round_trip: Duration | None = None
    """Measured round-trip time, such as `35ms`."""
    basis: Basis


class LinkStatus(Schema):
    """Observed state of the link. Reserved: nothing writes or reads it yet."""

    measured: MeasuredLink | None = None
    conditions: Annotated[list[Condition], Field(max_length=8)] = []
    """Conditions of the link. None are defined yet."""
    observed_generation: int = 0
    """Generation of the Link that this status was written for."""


class Link(Resource):
    """A network connection between two nodes, sites or tiers.

    Administrators write it, and the operator predicts the latency and energy of transfers by it. Planning lets data
    cross from one node to another only where a Link joins them.
    """

    kind: Literal["Link"] = "Link"
    spec: LinkSpec
    status: LinkStatus = LinkStatus()
