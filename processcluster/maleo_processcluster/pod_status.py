"""Status of a pod from the states of its containers, as a kubelet reports it."""

import time
from collections.abc import Mapping
from typing import Any

from maleo_api.timestamps import format_timestamp
from maleo_kube.answers import Object
from maleo_processcluster.container import ContainerState, Termination


def report(
    pod: Object, states: Mapping[str, ContainerState], *, pod_ip: str, host_ip: str, started_at: float
) -> Object:
    """Return the status of a pod.

    Args:
        pod: The pod, with its stored status.
        states: Container name -> state.
        pod_ip: Address of the pod.
        host_ip: Address of the node.
        started_at: Unix time at which this node took the pod.
    """
    specs = pod["spec"]["containers"]
    ready = all(states[spec["name"]].ready for spec in specs)
    any_started = any(state.started_at for state in states.values())
    before = {row["type"]: row for row in pod.get("status", {}).get("conditions", ())}
    waiting = [spec["name"] for spec in specs if not states[spec["name"]].ready]
    not_ready = {"reason": "ContainersNotReady", "message": f"containers with unready status: {waiting}"}
    conditions = [
        before.get("PodScheduled", {"type": "PodScheduled", "status": "True"}),
        _condition("PodReadyToStartContainers", True, before),
        _condition("Initialized", True, before),
        _condition("ContainersReady", ready, before) | ({} if ready else not_ready),
        _condition("Ready", ready, before) | ({} if ready else not_ready),
    ]
    return {
        "phase": "Running" if any_started else "Pending",
        "conditions": conditions,
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "startTime": format_timestamp(started_at),
        "qosClass": pod.get("status", {}).get("qosClass", "Burstable"),
        "containerStatuses": [_container(spec, states[spec["name"]]) for spec in specs],
    }


def _condition(kind: str, is_true: bool, before: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a condition, with the time of its last transition if that is not now."""
    status = "True" if is_true else "False"
    old = before.get(kind, {})
    since = old["lastTransitionTime"] if old.get("status") == status else format_timestamp(time.time())
    return {"type": kind, "status": status, "lastTransitionTime": since}


def _container(spec: Mapping[str, Any], state: ContainerState) -> dict[str, Any]:
    ended = {"lastState": {"terminated": _termination(state.last_end)}} if state.last_end is not None else {}
    waiting = {"reason": state.waiting, **({"message": state.message} if state.message else {})}
    running = {"startedAt": format_timestamp(state.started_at)}
    return {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": f"maleo-process://{spec['image']}",
        "containerID": f"maleo-process://{state.pid}" if state.pid else "",
        "ready": state.ready,
        "started": state.running,
        "restartCount": state.restarts,
        "state": {"running": running} if state.running else {"waiting": waiting},
        **ended,
    }


def _termination(end: Termination) -> dict[str, Any]:
    times = {"startedAt": format_timestamp(end.started_at), "finishedAt": format_timestamp(end.finished_at)}
    return {"exitCode": end.exit_code, "reason": end.reason, **times}
