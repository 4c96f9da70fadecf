"""Container of a pod as a local process: module, environment, folders, and what is ignored."""

from pathlib import Path
from typing import Any

import pytest

from maleo_processcluster.pod_plan import IMAGES, NotRunnable, Place, find_ignored, find_program, plan_container

PLACE = Place(node="drone-1", pod_ip="10.244.1.2", host_ip="172.30.99.11", listen_ip="127.77.101.2")
FOLDER = Path("/state/uid")


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": "demo", "uid": "u-1"}, "spec": {"containers": [], **spec}}


def plan(container: dict[str, Any], keys: dict[tuple[str, str, str], str] | None = None) -> Any:
    given = {"name": "main", "image": IMAGES["slot"], **container}
    return plan_container(pod(), given, PLACE, FOLDER, lambda *key: (keys or {}).get(key))


@pytest.mark.parametrize(("component", "module"), [("operator", "maleo_operator.main"), ("slot", "maleo_runtime.main")])
def test_image__selects_the_module(component: str, module: str) -> None:
    assert find_program(IMAGES[component]).module == module


@pytest.mark.parametrize("image", ["nginx", "maleo-process/slot:2", "maleo-process/other:local", "slot", ""])
def test_unknown_image__is_not_pulled(image: str) -> None:
    with pytest.raises(NotRunnable, match="process nodes run only maleo-process/operator:local") as raised:
        find_program(image)
    assert raised.value.reason == "ErrImageNeverPull"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ({"value": "plain"}, "plain"),
        ({}, ""),
        ({"value": "http://$(FIRST):9808"}, "http://172.30.99.11:9808"),
        ({"value": "$(UNKNOWN)"}, "$(UNKNOWN)"),
        ({"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, "p"),
        ({"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}, "drone-1"),
        ({"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}, "10.244.1.2"),
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
        ({}, {"resources": {"limits": {"memory": "1Gi", "cpu": "1"}}}, ["resources.limits.cpu"]),
        ({}, {"startupProbe": {"httpGet": {}}, "lifecycle": {}}, ["startupProbe", "lifecycle"]),
        ({}, {"livenessProbe": {"exec": {"command": ["true"]}}}, ["livenessProbe"]),
    ],
)
def test_what_a_process_cannot_honour__is_listed(
    spec: dict[str, Any], container: dict[str, Any], ignored: list[str]
) -> None:
    assert [text.partition(":")[0] for text in find_ignored(pod(**spec), container)] == ignored


@pytest.mark.parametrize(
    ("container", "named"),
    [
        ({"command": ["sh"]}, "command"),
        ({"args": ["--verbose"]}, "args"),
        ({"envFrom": [{"configMapRef": {"name": "c"}}]}, "envFrom"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}, r"volumeMounts\.subPath"),
    ],
)
def test_field_that_would_run_another_program__is_refused(container: dict[str, Any], named: str) -> None:
    with pytest.raises(NotRunnable, match=f"process nodes do not support {named}") as raised:
        plan(container)
    assert raised.value.reason == "CreateContainerError"


def test_init_containers__are_refused() -> None:
    container = {"name": "main", "image": IMAGES["slot"]}
    with pytest.raises(NotRunnable, match="process nodes do not support initContainers"):
        plan_container(pod(initContainers=[container]), container, PLACE, FOLDER, lambda *_: None)


def test_memory_limit__is_in_bytes() -> None:
    assert plan({"resources": {"limits": {"memory": "64Mi"}}}).memory_limit == 64 * 1024**2
    assert plan({}).memory_limit is None


def test_path_that_a_program_has_as_default__is_translated_unless_it_is_set() -> None:
    mounts = [{"name": "token", "mountPath": "/var/run/secrets/maleo"}]
    agent = {"image": IMAGES["agent"], "volumeMounts": mounts}
    assert plan(agent).environment == {"MALEO_TOKEN_FILE": "/state/uid/volumes/token/token"}
    chosen = {**agent, "env": [{"name": "MALEO_TOKEN_FILE", "value": "/other"}]}
    assert plan(chosen).environment == {"MALEO_TOKEN_FILE": "/other"}
