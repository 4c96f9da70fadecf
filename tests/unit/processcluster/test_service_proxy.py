"""Services on process nodes: which containers a port leads to."""

from typing import Any

import pytest

from maleo_processcluster.service_proxy import find_targets, is_ready

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
    assert find_targets(SERVICE, port, [pod("a", "127.1.1.2")]) == [("127.1.1.2", target)]


def test_ready_pods_that_are_selected__are_the_targets_in_order_of_their_names() -> None:
    pods = [
        pod("b", "127.1.1.3"),
        pod("a", "127.1.1.2"),
        pod("starting", "127.1.1.4", ready=False),
        pod("leaving", "127.1.1.5", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("elsewhere", "127.1.1.6", namespace="other"),
        pod("other", "127.1.1.7", app="db"),
    ]
    assert find_targets(SERVICE, 80, pods) == [("127.1.1.2", 8080), ("127.1.1.3", 8080)]


def test_unknown_port_or_no_selector__leads_nowhere() -> None:
    headless = {**SERVICE, "spec": {"ports": [{"port": 80}]}}
    assert find_targets(SERVICE, 82, [pod("a", "127.1.1.2")]) == []
    assert find_targets(headless, 80, [pod("a", "127.1.1.2")]) == []


def test_port_name_that_no_container_has__leads_nowhere() -> None:
    service = {**SERVICE, "spec": {**SERVICE["spec"], "ports": [{"port": 80, "targetPort": "grpc"}]}}
    assert find_targets(service, 80, [pod("a", "127.1.1.2")]) == []


def test_pod_without_status__is_not_ready() -> None:
    assert not is_ready({"metadata": {"name": "a"}})
