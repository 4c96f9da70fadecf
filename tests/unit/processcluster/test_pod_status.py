"""Status of a pod on a process node, in the form of a kubelet."""

from typing import Any

from maleo_processcluster.container import ContainerState, Termination
from maleo_processcluster.pod_status import report

SPEC = {"containers": [{"name": "main", "image": "maleo-process/slot:local"}]}
RUNNING = ContainerState(running=True, ready=True, started_at=1_800_000_000.0, waiting="", pid=42)


def status(state: ContainerState, *, before: dict[str, Any] | None = None) -> dict[str, Any]:
    pod = {"metadata": {"name": "p"}, "spec": SPEC, "status": before or {}}
    return report(pod, {"main": state}, pod_ip="127.1.1.2", host_ip="127.1.1.1", started_at=1_800_000_000.0)


def condition(found: dict[str, Any], kind: str) -> dict[str, Any]:
    (row,) = (row for row in found["conditions"] if row["type"] == kind)
    return row


def test_running_container__makes_the_pod_ready() -> None:
    found = status(RUNNING)
    assert (found["phase"], found["podIP"], found["hostIP"]) == ("Running", "127.1.1.2", "127.1.1.1")
    assert condition(found, "Ready")["status"] == "True"
    (container,) = found["containerStatuses"]
    assert container["state"] == {"running": {"startedAt": "2027-01-15T08:00:00Z"}}
    assert container["containerID"] == "maleo-process://42"


def test_container_that_never_started__waits_with_its_reason() -> None:
    found = status(ContainerState(waiting="ErrImageNeverPull", message="unknown image"))
    assert found["phase"] == "Pending"
    assert condition(found, "Ready")["reason"] == "ContainersNotReady"
    assert found["containerStatuses"][0]["state"] == {
        "waiting": {"reason": "ErrImageNeverPull", "message": "unknown image"}
    }


def test_ended_container__keeps_the_end_of_its_last_run() -> None:
    end = Termination(exit_code=137, reason="OOMKilled", started_at=1.0, finished_at=2.0)
    state = ContainerState(last_end=end, started_at=3.0, restarts=1, waiting="CrashLoopBackOff")
    (container,) = status(state)["containerStatuses"]
    assert container["lastState"]["terminated"] == {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": "1970-01-01T00:00:01Z",
        "finishedAt": "1970-01-01T00:00:02Z",
    }
    assert container["restartCount"] == 1
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"


def test_condition_that_does_not_change__keeps_its_time() -> None:
    since = "2026-01-01T00:00:00Z"
    before = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]}
    assert condition(status(RUNNING, before=before), "Ready")["lastTransitionTime"] == since
    ended = ContainerState(waiting="CrashLoopBackOff", started_at=1.0)
    assert condition(status(ended, before=before), "Ready")["lastTransitionTime"] != since
