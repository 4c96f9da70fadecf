"""Container of a pod as a local process: module, environment, folders, and what is ignored."""

from pathlib import Path
from typing import Any

import pytest

from maleo_processcluster.pod_plan import IMAGES, NotRunnable, Place, find_ignored, find_module, plan_container

PLACE = Place(node="drone-1", pod_ip="127.1.1.2", host_ip="127.1.1.1")
FOLDER = Path("/state/uid")


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "demo", "uid": "u-1"}, "spec": {"containers": [], **spec}}


def plan(container: dict[str, Any], keys: dict[tuple[str, str, str], str] | None = None) -> Any:
    given = {"name": "main", "image": IMAGES["slot"], **container}
    return plan_container(pod(), given, PLACE, FOLDER, lambda *key: (keys or {}).get(key))


@pytest.mark.parametrize(("component", "module"), [("operator", "maleo_operator.main"), ("slot", "maleo_runtime.main")])
def test_image__selects_the_module(component: str, module: str) -> None:
    assert find_module(IMAGES[component]) == module


@pytest.mark.parametrize("image", ["nginx", "maleo-process/slot:2", "maleo-process/other:local", "slot", ""])
def test_unknown_image__is_not_pulled(image: str) -> None:
    with pytest.raises(NotRunnable, match="process nodes run only maleo-process/operator:local") as raised:
        find_module(image)
    assert raised.value.reason == "ErrImageNeverPull"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ({"value": "plain"}, "plain"),
        ({}, ""),
        ({"value": "http://$(FIRST):9808"}, "http://127.1.1.1:9808"),
        ({"value": "$(UNKNOWN)"}, "$(UNKNOWN)"),
        ({"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, "p"),
        ({"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}, "drone-1"),
        ({"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, "127.1.1.2"),
        ({"valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}, "64Mi"),
        ({"valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}, "0"),
        ({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, "hidden"),
        ({"valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}, "shown"),
        ({"value": "/artifacts"}, "/state/uid/volumes/store"),
        ({"value": "/artifacts/x"}, "/state/uid/volumes/store/x"),
        ({"value": "/artifacts2"}, "/artifacts2"),
    ],
)
def test_variable__has_the_value_that_a_kubelet_gives_it(variable: dict[str, Any], value: str) -> None:
    first = {"name": "FIRST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
    container = {
        "env": [first, {"name": "ASKED", **variable}],
        "resources": {"limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "store", "mountPath": "/artifacts"}],
    }
    keys = {("Secret", "s", "k"): "hidden", ("ConfigMap", "c", "k"): "shown"}
    assert plan(container, keys).environment["ASKED"] == value


def test_missing_key__is_named_unless_it_is_optional() -> None:
    reference = {"name": "s", "key": "k"}
    with pytest.raises(NotRunnable, match="Secret s has no key k, which variable WORD requires") as raised:
        plan({"env": [{"name": "WORD", "valueFrom": {"secretKeyRef": reference}}]})
    assert raised.value.reason == "CreateContainerConfigError"
    optional = {"env": [{"name": "WORD", "valueFrom": {"secretKeyRef": {**reference, "optional": True}}}]}
    assert plan(optional).environment == {}


def test_unsupported_field__is_named() -> None:
    with pytest.raises(NotRunnable, match=r"fieldRef status\.unknown is not supported"):
        plan({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.unknown"}}}]})


def test_nested_mounts__translate_by_the_longest_path() -> None:
    mounts = [{"name": "outer", "mountPath": "/var"}, {"name": "inner", "mountPath": "/var/lib/maleo"}]
    found = plan({"volumeMounts": mounts})
    assert found.translate("/var/lib/maleo/x") == "/state/uid/volumes/inner/x"
    assert found.translate("/var/log") == "/state/uid/volumes/outer/log"


@pytest.mark.parametrize(
    ("spec", "container", "ignored"),
    [
        ({}, {}, []),
        ({}, {"securityContext": {"privileged": True}}, ["securityContext.privileged"]),
        ({"securityContext": {"runAsUser": 65532}}, {}, ["securityContext.runAsUser"]),
        ({"volumes": [{"name": "cache", "hostPath": {"path": "/x"}}]}, {}, ["volumes[cache].hostPath"]),
        ({}, {"resources": {"limits": {"memory": "1Gi"}}}, ["resources.limits"]),
    ],
)
def test_what_a_process_cannot_honour__is_listed(
    spec: dict[str, Any], container: dict[str, Any], ignored: list[str]
) -> None:
    assert [text.partition(":")[0] for text in find_ignored(pod(**spec), container)] == ignored
