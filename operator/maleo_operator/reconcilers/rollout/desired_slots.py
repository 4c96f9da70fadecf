"""Desired state of every slot of one mission, derived from its held Placements."""

from maleo_api import quantities
from maleo_api.model import Artifact, Tensor
from maleo_api.placement import CodecModel, Partition, Placement
from maleo_operator.reconcilers.egress import breaks_egress, withholds_input
from maleo_operator.reconcilers.revisions import (
    Revisions,
    Slot,
    entry_of,
    live_pods,
    partition_at,
    slots_of,
)
from maleo_operator.reconcilers.scope import MissionScope, SlotPod
from maleo_wire import messages as wire
from maleo_wire.address import join_host_port


def build_desired_slots(scope: MissionScope, revisions: Revisions) -> tuple[tuple[str, wire.SlotDesired], ...]:
    """Return (node, desired state) for every existing pod that a held revision needs."""
    pods = live_pods(scope.pods)
    needed = dict.fromkeys(slot for placement in revisions.held for slot in slots_of(placement))
    return tuple((slot.node, _slot(scope, revisions, slot, pods)) for slot in needed if slot in pods)


def _slot(scope: MissionScope, revisions: Revisions, slot: Slot, pods: dict[Slot, SlotPod]) -> wire.SlotDesired:
    mission = scope.mission
    entry = any(entry_of(p) == slot for p in revisions.held)
    active = _active_at(revisions, slot)
    serving = active or revisions.active or revisions.held[-1]  # model name and tensors change when the entry flips
    held = [p for p in revisions.held if slot in slots_of(p) and not _must_unload(revisions, p, slot)]
    fallback = _fallback_holder(revisions, slot)
    return wire.SlotDesired(
        slot=f"{mission.metadata.namespace}/{pods[slot].name}",
        mission=mission.key,
        model=serving.spec.model,
        unit=slot.unit,
        entry=entry,
        identity=scope.identity,
        revisions=tuple(_revision(scope, p, slot, pods) for p in sorted(held, key=lambda p: p.spec.revision)),
        active=active.spec.revision if active else None,
        fallback=_fallback(fallback) if fallback else None,
        policy=_request_policy(scope),
        inputs=_tensors(serving.spec.partitions[0].inputs) if entry else (),
        outputs=_tensors(serving.spec.partitions[-1].outputs) if entry else (),
    )


def _must_unload(revisions: Revisions, placement: Placement, slot: Slot) -> bool:
    """Return True if `placement` must be unloaded from `slot` before the pending revision fits.

    The fallback or a permitted gap bridges the interruption.
    """
    pending = revisions.pending
    if pending is None or placement is pending or pending.spec.switch.strategy == "SideBySide":
        return False
    return partition_at(pending, slot) is not None and partition_at(placement, slot) is not None


def _active_at(revisions: Revisions, slot: Slot) -> Placement | None:
    """Return the newest committed revision with its entry in `slot`; a draining entry serves until its pod is gone."""
    committed = [p for p in (*revisions.draining, revisions.active) if p is not None and entry_of(p) == slot]
    return committed[-1] if committed and revisions.active is not None else None


def _fallback_holder(revisions: Revisions, slot: Slot) -> Placement | None:
    order = (revisions.active, *reversed(revisions.draining), revisions.pending)
    return next((p for p in order if p is not None and p.spec.fallback and entry_of(p) == slot), None)


def _revision(scope: MissionScope, placement: Placement, slot: Slot, pods: dict[Slot, SlotPod]) -> wire.Revision:
    spec = placement.spec
    partition = partition_at(placement, slot)
    following = spec.partitions[0] if partition is None else _following(placement, partition)
    withheld = following is not None and withholds_input(scope, placement, following)
    return wire.Revision(
        revision=spec.revision,
        epoch=spec.epoch,
        variant=_label(spec.variant, spec.exit),
        stage=_stage_spec(spec.artifact, partition, withholds_input=withheld) if partition else None,
        next=_next_peer(scope, following, pods, allowed=not breaks_egress(scope, placement)) if following else None,
    )


def _following(placement: Placement, partition: Partition) -> Partition | None:
    chain = placement.spec.partitions
    position = chain.index(partition) + 1
    return chain[position] if position < len(chain) else None


def _next_peer(scope: MissionScope, partition: Partition, pods: dict[Slot, SlotPod], *, allowed: bool) -> wire.Peer:
    """Return the peer: the slot of the following `partition`.

    The address is empty while the slot has none, and while an egress rule forbids the placement: then nothing is sent,
    and the entry answers by its fallback until the mission has moved.
    """
    pod = pods.get(Slot(partition.node, partition.unit))
    address = join_host_port(pod.ip, scope.settings.slot_port) if allowed and pod and pod.ip else ""
    return wire.Peer(address=address, node=partition.node)


def _fallback(placement: Placement) -> wire.Revision:
    fallback, spec = placement.spec.fallback, placement.spec
    assert fallback is not None
    return wire.Revision(
        revision=spec.revision,
        epoch=spec.epoch,
        variant=_label(fallback.variant, fallback.exit),
        stage=_stage_spec(fallback.artifact, fallback.partition),
        next=None,
    )


def _stage_spec(artifact: Artifact, partition: Partition, *, withholds_input: bool = False) -> wire.StageSpec:
    return wire.StageSpec(
        artifact=_artifact(artifact),
        inputs=_tensors(partition.inputs),
        outputs=_tensors(partition.outputs),
        taken_from=tuple(partition.taken_from),
        decoder=_codec_spec(partition.decoder),
        encoder=_codec_spec(partition.encoder),
        providers=tuple(partition.providers),
        pace=_pace(partition),
        withholds_input=withholds_input,
    )


def _label(variant: str, exit_: str) -> str:
    """Return the variant name in responses: `fp32`, or `fp32:exit-1`."""
    return f"{variant}:{exit_}" if exit_ else variant


def _codec_spec(codec: CodecModel | None) -> wire.CodecSpec | None:
    return wire.CodecSpec(artifact=_artifact(codec.artifact), tensors=_tensors(codec.tensors)) if codec else None


def _artifact(artifact: Artifact) -> wire.Artifact:
    size = int(quantities.parse(quantities.BYTES, artifact.size))
    return wire.Artifact(uri=artifact.uri, digest=artifact.digest, size=size)


def _tensors(tensors: list[Tensor]) -> tuple[wire.TensorSpec, ...]:
    return tuple(wire.TensorSpec(name=t.name, datatype=t.datatype, shape=tuple(t.shape)) for t in tensors)


def _pace(partition: Partition) -> wire.Pace | None:
    if partition.pace is None:
        return None
    energy = partition.pace.energy
    return wire.Pace(
        seconds=quantities.parse(quantities.DURATION, partition.pace.time),
        joules=quantities.parse(quantities.ENERGY, energy) if energy else None,
    )


def _request_policy(scope: MissionScope) -> wire.RequestPolicy:
    latency = scope.mission.spec.objectives.latency
    return wire.RequestPolicy(
        latency_limit_s=quantities.parse(quantities.DURATION, latency.at_most) if latency else None,
        hop_timeout_s=scope.settings.hop_timeout_s,
        max_body_bytes=scope.settings.max_body_bytes,
    )
