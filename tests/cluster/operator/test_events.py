"""Events of a mission, read back by `kubectl get events` and `kubectl describe` from a real API server."""

import json
import subprocess
from typing import Any

import pytest

from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.client import Client
from maleo_kube.resources import MISSIONS
from maleo_operator.cluster.cache import Cache
from maleo_operator.cluster.writer import Writer
from maleo_operator.reconcilers.scope import Event, Outcome
from support.paths import ROOT

pytestmark = pytest.mark.cluster

_CRDS = ROOT / "crds"
_MISSION = {
    "apiVersion": "maleo.dev/v1alpha1",
    "kind": "Mission",
    "metadata": {"name": "watched", "namespace": "default"},
    "spec": {
        "model": {"name": "net"},
        "objectives": {"latency": {"percentile": 95, "atMost": "50ms"}},
        "demand": {"rate": "10/s"},
        "input": {"node": "gate-1"},
    },
}


def _event(reason: str, message: str) -> Event:
    return Event(type="Warning", reason=reason, message=message, key=reason)


async def test_events__are_listed_for_their_mission_and_repeated_ones_are_deduplicated(
    api_server: ControlPlane,
) -> None:
    _kubectl(api_server, "apply", "--server-side", "-f", str(_CRDS))
    _kubectl(api_server, "wait", "--for=condition=Established", "--timeout=60s", "-f", str(_CRDS))
    async with Client.from_kubeconfig(api_server.kubeconfig) as client:
        mission = await client.create(MISSIONS, _MISSION)
        writer = Writer(client, Cache(client, mark=lambda *_: None, on_restart=lambda *_: None))
        late = _event("LatencyMetFalse", "LatencyMet is False: p95 is 60ms, the limit is 50ms")
        await writer.apply_mission(mission, Outcome(events=(late, _event("PartnerLost", "Degraded is True: edge-1"))))
        await writer.apply_mission(mission, Outcome(events=(late,)))
        events = _events(api_server, "LatencyMetFalse")
        assert [(e["type"], e["message"], e["source"]["component"]) for e in events] == [
            ("Warning", "LatencyMet is False: p95 is 60ms, the limit is 50ms", "maleo-operator")
        ]
        assert events[0]["involvedObject"]["uid"] == mission["metadata"]["uid"]
        described = _kubectl(api_server, "describe", "mission", "watched")
        assert "LatencyMetFalse" in described.partition("Events:")[2]
        await client.delete(MISSIONS, "watched", namespace="default")


def _events(api_server: ControlPlane, reason: str) -> list[dict[str, Any]]:
    selector = f"involvedObject.kind=Mission,involvedObject.name=watched,reason={reason}"
    found = json.loads(_kubectl(api_server, "get", "events", "--field-selector", selector, "-o", "json"))
    return list(found["items"])


def _kubectl(api_server: ControlPlane, *arguments: str) -> str:
    command = ["kubectl", "--kubeconfig", str(api_server.kubeconfig), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
