"""Network of process nodes: where the port of a Service leads to, and which ports pods have."""

from typing import Any

import pytest

from maleo_processcluster.network import find_ports, find_targets, is_ready

SERVICE: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "demo"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}, {"port": 81}]},
}


def pod(name: str, ip: str, *, ready: bool = True, namespace: str = "demo", app: str = "web", **meta: Any) -> Any:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app, "more": "1"}, **meta},
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"podIP": ip, "conditions": [condition]},
    }


@pytest.mark.parametrize(("port", "target"), [(80, 8080), (81, 81)])
def test_port__leads_to_the_named_port_or_to_its_own_number(port: int, target: int) -> None:
    assert find_targets(SERVICE, port, [pod("a", "10.244.1.2")]) == [("10.244.1.2", target)]


def test_ready_pods_that_are_selected__are_the_targets_in_order_of_their_names() -> None:
    pods = [
        pod("b", "10.244.1.3"),
        pod("a", "10.244.1.2"),
        pod("starting", "10.244.1.4", ready=False),
        pod("leaving", "10.244.1.5", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("elsewhere", "10.244.1.6", namespace="other"),
        pod("other", "10.244.1.7", app="db"),
    ]
    assert find_targets(SERVICE, 80, pods) == [("10.244.1.2", 8080), ("10.244.1.3", 8080)]


def test_unknown_port_or_no_selector__leads_nowhere() -> None:
    headless = {**SERVICE, "spec": {"ports": [{"port": 80}]}}
    assert find_targets(SERVICE, 82, [pod("a", "10.244.1.2")]) == []
    assert find_targets(headless, 80, [pod("a", "10.244.1.2")]) == []


def test_port_name_that_no_container_has__leads_nowhere() -> None:
    service = {**SERVICE, "spec": {**SERVICE["spec"], "ports": [{"port": 80, "targetPort": "grpc"}]}}
    assert find_targets(service, 80, [pod("a", "10.244.1.2")]) == []


def test_pod_without_status__is_not_ready() -> None:
    assert not is_ready({"metadata": {"name": "a"}})


def test_declared_ports__are_reached_once_the_pod_has_an_address() -> None:
    assert find_ports(pod("a", "10.244.1.2")) == {("10.244.1.2", 8080)}
    assert find_ports(pod("a", "")) == set()
    assert find_ports({"metadata": {"name": "a"}, "spec": {"containers": [{}]}, "status": {"podIP": "1"}}) == set()
