"""The charts on a real API server: all objects are accepted, and the policies deny what they should."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from maleo_cli.commands.install import NAMESPACE, install, uninstall
from maleo_cli.errors import Failure
from maleo_cli.live_cluster import read_cluster
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.kubeconfig import read_access
from support.paths import ROOT

pytestmark = pytest.mark.cluster

_IMAGES = {"operator": "registry/operator:1", "agent": "registry/agent:1", "slot": "registry/slot:1"}
_REGISTRIES = ["10.0.0.5:5000", "http://registry.internal:5000", "[fd00::5]:5000"]
_VALUES = {
    "dashboards": {"enabled": True},
    "agent": {"registries": _REGISTRIES, "refusedNetworks": ["2001:db8::/48"]},
}
_DIGEST = "sha256:" + "0" * 64


class Kubectl:
    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def run(self, *arguments: str, body: Any = None) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "--kubeconfig", str(self._kubeconfig), *arguments]
        stdin = None if body is None else json.dumps(body)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)

    def get(self, *arguments: str) -> Any:
        done = self.run("get", *arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def create(self, body: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("create", "-f", "-", *arguments, body=body)


@pytest.fixture(scope="module")
def installed(own_api_server: ControlPlane) -> Iterator[Kubectl]:
    install(own_api_server.kubeconfig, _IMAGES, values=_VALUES)
    yield Kubectl(own_api_server.kubeconfig)
    uninstall(own_api_server.kubeconfig, crds=True)


def _lease(transitions: int) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "maleo-operator", "namespace": NAMESPACE},
        "spec": {"holderIdentity": "a", "leaseTransitions": transitions},
    }


def _placement(name: str, *, epoch: int) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1]}
    partition = {
        "name": "p0", "span": {"first": 0, "last": 0}, "node": "n1", "unit": "host/cpu", "memory": "1Mi",
        "inputs": [tensor], "outputs": [tensor],
    }  # fmt: skip
    spec = {
        "mission": "m", "revision": 1, "epoch": epoch, "mode": "Local", "model": "m", "variant": "v",
        "artifact": {"uri": "file:///m.onnx", "digest": _DIGEST, "format": "onnx", "size": "1Mi"},
        "entryNode": "n1", "partitions": [partition], "predicted": {}, "reason": "FirstPlacement",
        "inputsDigest": _DIGEST,
    }  # fmt: skip
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "maleo.dev/v1alpha1", "kind": "Placement", "metadata": metadata, "spec": spec}


def _mission(name: str, **spec: Any) -> dict[str, Any]:
    minimal = {"model": {"name": "m"}, "input": {"node": "n1"}, "objectives": {"latency": {"atMost": "50ms"}}}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "metadata": metadata, "spec": minimal | spec}


def _await_denied(create: Any, message: str) -> None:
    """Repeat a dry run until it is denied: a new policy or parameter is enforced after a short delay."""
    output = ""
    for _ in range(200):
        output = create().stderr
        if message in output:
            return
    pytest.fail(f"never denied with {message!r}, last output: {output}")


def test_charts__install_and_upgrade_all_objects(installed: Kubectl, own_api_server: ControlPlane) -> None:
    install(own_api_server.kubeconfig, _IMAGES | {"slot": "registry/slot:2"}, values=_VALUES)
    deployment = installed.get("deployment/maleo-operator", "-n", NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "MALEO_SLOT_IMAGE", "value": "registry/slot:2"} in container["env"]
    pod = installed.get("daemonset/maleo-agent", "-n", NAMESPACE)["spec"]["template"]["spec"]
    assert pod["hostNetwork"]
    environment = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    assert environment["MALEO_REGISTRIES"] == ",".join(_REGISTRIES)
    assert environment["MALEO_REFUSED_NETWORKS"] == "2001:db8::/48"
    ports = installed.get("service/maleo-operator", "-n", NAMESPACE)["spec"]["ports"]
    assert ports[0]["port"] == 9807, "MALEO_OPERATOR_SERVICE_PORT is the first port"


def test_invalid_value_of_the_charts__is_named(own_api_server: ControlPlane) -> None:
    with pytest.raises(Failure, match="replicas"):
        install(own_api_server.kubeconfig, _IMAGES, values={"operator": {"replicas": "many"}})


def test_policies__pass_the_type_check_of_the_api_server(installed: Kubectl) -> None:
    """No expression has an unknown field or function."""
    policies = installed.get("validatingadmissionpolicies")["items"]
    assert {p["metadata"]["name"] for p in policies} == {
        "maleo-epoch",
        "maleo-active-epoch",
        "maleo-agent",
        "maleo-safety",
        "maleo-priority",
        "maleo-operator",
        "maleo-operator-pods",
        "maleo-operator-secrets",
    }
    assert [p["status"]["typeChecking"] for p in policies if p.get("status", {}).get("typeChecking")] == []


def test_epoch_policy__denies_placements_of_a_former_leader(installed: Kubectl) -> None:
    assert installed.run("apply", "-f", "-", body=_lease(7)).returncode == 0
    _await_denied(
        lambda: installed.create(_placement("m-1", epoch=6), "--dry-run=server"),
        "stale epoch 6: the leader has 7",
    )
    assert installed.create(_placement("m-2", epoch=7)).returncode == 0
    assert installed.run("apply", "-f", "-", body=_lease(8)).returncode == 0
    _await_denied(
        lambda: installed.create(_placement("m-3", epoch=7), "--dry-run=server"),
        "stale epoch 7: the leader has 8",
    )
    labelled = installed.run("label", "placement/m-2", "-n", "default", "kept=true")
    assert labelled.returncode == 0, "Placements of former leaders can be changed"


def test_epoch_policy__denies_an_active_revision_of_a_former_leader(installed: Kubectl) -> None:
    assert installed.run("apply", "-f", "-", body=_lease(9)).returncode == 0
    assert installed.create(_mission("moved")).returncode == 0

    def commit(epoch: int, *more: str) -> subprocess.CompletedProcess[str]:
        patch = json.dumps({"status": {"active": {"revision": 1, "epoch": epoch}}})
        return installed.run(
            "patch", "mission/moved", "-n", "default", "--subresource=status", "--type=merge", "-p", patch, *more
        )

    _await_denied(lambda: commit(8, "--dry-run=server"), "stale epoch 8: the leader has 9")
    assert commit(9).returncode == 0
    assert installed.run("apply", "-f", "-", body=_lease(10)).returncode == 0
    phase = json.dumps({"status": {"phase": "Serving"}})
    other = installed.run(
        "patch", "mission/moved", "-n", "default", "--subresource=status", "--type=merge", "-p", phase
    )
    assert other.returncode == 0, "an active revision of a former leader is kept"


def test_safety_policy__requires_the_verb_use(installed: Kubectl) -> None:
    person = ["--as=anna", "--as-group=system:authenticated"]
    binding = ["create", "clusterrolebinding"]
    assert installed.run(*binding, "anna-edits", "--clusterrole=maleo-edit", "--user=anna").returncode == 0
    safety = _mission("brakes", criticality="Safety")
    _await_denied(
        lambda: installed.create(safety, *person, "--dry-run=server"), "requires the verb `use` on criticalities/safety"
    )
    assert installed.run(*binding, "anna-safety", "--clusterrole=maleo-safety", "--user=anna").returncode == 0
    assert installed.create(_mission("camera"), *person).returncode == 0
    assert any(installed.create(safety, *person).returncode == 0 for _ in range(100)), (
        "allowed once the binding is observed"
    )


@pytest.fixture
def bert(installed: Kubectl) -> Iterator[list[str]]:
    """Return the kubectl options to act as a tenant who may edit missions in every namespace."""
    for role in ("view", "edit"):
        binding = ["create", "clusterrolebinding", f"bert-{role}", f"--clusterrole=maleo-{role}", "--user=bert"]
        assert installed.run(*binding).returncode == 0
    yield ["--as=bert", "--as-group=system:authenticated"]
    installed.run("delete", "clusterrolebinding", "bert-view", "bert-edit")


def _priority_class(name: str, value: int) -> dict[str, Any]:
    metadata = {"name": name}
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": metadata, "value": value}


def test_priority_policy__asks_for_the_verb_on_the_class(installed: Kubectl, bert: list[str]) -> None:
    """The grant is the example of docs/concepts/security.md: class `urgent`, for group team-a in namespace team-a."""
    assert installed.create(_priority_class("urgent", 1000)).returncode == 0
    assert installed.run("create", "namespace", "team-a").returncode == 0
    urgent = _mission("urgent", priorityClassName="urgent")
    theirs = urgent | {"metadata": {"name": "urgent", "namespace": "team-a"}}
    denied = "requires the verb `use` on priorityclasses/urgent of scheduling.k8s.io: ask an administrator"
    in_team = [*bert, "--as-group=team-a"]
    _await_denied(lambda: installed.create(urgent, *bert, "--dry-run=server"), denied)
    assert denied in installed.create(theirs, *in_team).stderr
    assert installed.create(_mission("plain"), *bert).returncode == 0
    page = (ROOT / "docs/concepts/security.md").read_text(encoding="utf-8")
    for document in yaml.safe_load_all(page.partition("```yaml\n")[2].partition("```")[0]):
        assert installed.create(document).returncode == 0
    assert any(installed.create(theirs, *in_team).returncode == 0 for _ in range(100)), (
        "allowed once the binding is observed"
    )
    assert denied in installed.create(urgent, *in_team).stderr, "granted in the other namespace only"


def test_priority_policy__requires_the_verb_for_every_change_of_the_spec(installed: Kubectl, bert: list[str]) -> None:
    """Without the verb a user cannot change the spec of a mission that has the class, not even by its status."""
    assert installed.create(_priority_class("granted", 1000)).returncode == 0
    assert installed.create(_mission("granted", priorityClassName="granted")).returncode == 0, "an administrator may"
    assert installed.create(_mission("taken")).returncode == 0

    def patch(name: str, change: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
        what = ["patch", f"mission/{name}", "-n", "default", "--type=merge", "-p", json.dumps(change)]
        return installed.run(*what, *bert, *more)

    denied = "requires the verb `use` on priorityclasses/granted"
    _await_denied(lambda: patch("taken", {"spec": {"priorityClassName": "granted"}}, "--dry-run=server"), denied)
    assert denied in patch("granted", {"spec": {"model": {"name": "another"}}}).stderr
    applied = installed.run(
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
        *bert,
        body=_mission("taken", priorityClassName="granted"),
    )
    assert denied in applied.stderr
    assert patch("granted", {"metadata": {"labels": {"team": "b"}}}).returncode == 0
    assert patch("granted", {"spec": {"priorityClassName": ""}}).returncode == 0, (
        "removing the class requires no permission"
    )
    status = {"status": {"phase": "Serving"}, "spec": {"priorityClassName": "granted"}}
    assert "forbidden" in patch("taken", status, "--subresource=status").stderr
    assert installed.run("apply", "-f", "-", body=_lease(11)).returncode == 0, "the epoch policy requires the Lease"
    by_admin = ["patch", "mission/taken", "-n", "default", "--subresource=status", "--type=merge"]
    assert installed.run(*by_admin, "-p", json.dumps(status)).returncode == 0
    assert installed.get("mission/taken", "-n", "default")["spec"].get("priorityClassName", "") == ""


@pytest.mark.parametrize("name", ["system-node-critical", "system-cluster-critical", "system-anything"])
def test_priority_policy__denies_classes_of_cluster_components(installed: Kubectl, name: str) -> None:
    _await_denied(
        lambda: installed.create(_mission("critical", priorityClassName=name), "--dry-run=server"),
        f"spec.priorityClassName: {name} is reserved for cluster components",
    )


def test_priority_classes__are_ordered_by_criticality(installed: Kubectl, own_api_server: ControlPlane) -> None:
    deployment = installed.get("deployment/maleo-operator", "-n", NAMESPACE)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (classes,) = [json.loads(e["value"]) for e in container["env"] if e["name"] == "MALEO_SLOT_PRIORITY_CLASSES"]
    assert set(classes) == {"Safety", "Mission", "BestEffort"}
    values = [installed.get(f"priorityclass/{classes[c]}")["value"] for c in ("Safety", "Mission", "BestEffort")]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 3
    slots = {
        "priorityClasses": {"safety": {"name": "granted", "value": None}, "bestEffort": {"name": "", "value": None}}
    }
    install(own_api_server.kubeconfig, _IMAGES, values=_VALUES | {"slots": slots, "agent": {"priorityClassName": ""}})
    names = [c["metadata"]["name"] for c in installed.get("priorityclasses")["items"]]
    assert "maleo-mission" in names
    agents = installed.get("daemonset/maleo-agent", "-n", NAMESPACE)["spec"]["template"]["spec"]
    assert "priorityClassName" not in agents, "GKE admits system-* classes in kube-system only"


def test_operator__avoids_device_nodes_and_applies_the_values_of_the_chart(
    installed: Kubectl, own_api_server: ControlPlane
) -> None:
    spec = installed.get("deployment/maleo-operator", "-n", NAMESPACE)["spec"]["template"]["spec"]
    (preferred,) = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    (expression,) = preferred["preference"]["matchExpressions"]
    assert expression == {"key": "maleo.dev/tier", "operator": "NotIn", "values": ["Device"]}
    assert installed.get("pdb/maleo-operator", "-n", NAMESPACE)["spec"]["maxUnavailable"] == 1
    toleration = {"key": "dedicated", "operator": "Exists"}
    term = {"matchExpressions": [{"key": "infra", "operator": "Exists"}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    extra = [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]
    values = {
        "operator": {"affinity": affinity, "extraEnv": extra},
        "agent": {"extraEnv": extra},
        "slots": {"tolerations": [toleration], "cpuRequest": "100m", "cpuLimit": "2"},
    }
    install(own_api_server.kubeconfig, _IMAGES, values=_VALUES | values)
    spec = installed.get("deployment/maleo-operator", "-n", NAMESPACE)["spec"]["template"]["spec"]
    assert spec["affinity"] == affinity
    environment = {entry["name"]: entry.get("value") for entry in spec["containers"][0]["env"]}
    assert json.loads(environment["MALEO_SLOT_TOLERATIONS"]) == [toleration]
    assert (environment["MALEO_SLOT_CPU_REQUEST"], environment["MALEO_SLOT_CPU_LIMIT"]) == ("100m", "2")
    agent = installed.get("daemonset/maleo-agent", "-n", NAMESPACE)["spec"]["template"]["spec"]
    assert extra[0] in agent["containers"][0]["env"]
    assert agent["dnsPolicy"] == "Default", "nothing depends on the cluster's DNS"
    assert read_cluster(read_access(own_api_server.kubeconfig), NAMESPACE).tolerations == (toleration,)
    with pytest.raises(Failure, match="cpuRequest"):
        install(own_api_server.kubeconfig, _IMAGES, values={"slots": {"cpuRequest": "much"}})


def test_settings_of_the_operator__are_readable_by_every_user_and_missing_ones_are_reported(
    installed: Kubectl, own_api_server: ControlPlane, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line plans with them."""
    person = ["--as=clara", "--as-group=system:authenticated", "-n", NAMESPACE]
    assert installed.run("auth", "can-i", "get", "configmaps/maleo-settings", *person).stdout.strip() == "yes"
    for rest in ("get configmaps/other", "list configmaps", "update configmaps/maleo-settings"):
        assert installed.run("auth", "can-i", *rest.split(), *person).stdout.strip() == "no", rest
    found = read_cluster(read_access(own_api_server.kubeconfig), "elsewhere")
    assert found.tolerations == ()
    assert "pass Maleo's namespace with --system-namespace" in capsys.readouterr().err


_OPERATOR = f"--as=system:serviceaccount:{NAMESPACE}:maleo-operator"


def _slot(name: str) -> dict[str, Any]:
    """Return a pod as the operator creates it."""
    owner = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "name": "cctv", "uid": "u1", "controller": True}
    labels = {"maleo.dev/mission": "cctv", "app.kubernetes.io/managed-by": "maleo"}
    identity = {"secretKeyRef": {"name": "cctv-identity-0123456789ab", "key": "token"}}
    container = {
        "name": "slot", "image": "slot:1", "env": [{"name": "MALEO_IDENTITY", "valueFrom": identity}],
        "securityContext": {"allowPrivilegeEscalation": False},
    }  # fmt: skip
    spec = {
        "automountServiceAccountToken": False, "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }  # fmt: skip
    metadata = {"name": name, "namespace": "default", "labels": labels, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _merge(item: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return `item` with `change` applied as a JSON merge patch."""
    merged = dict(item)
    for key, value in change.items():
        merged[key] = _merge(item.get(key, {}), value) if isinstance(value, dict) else value
    return merged


_ONLY_CONTROLLED = "the operator may create, change and delete only objects that a Mission controls"
_FORBIDDEN_PODS: dict[str, tuple[dict[str, Any], str]] = {
    "without an owner": ({"metadata": {"ownerReferences": []}}, _ONLY_CONTROLLED),
    "without labels": ({"metadata": {"labels": {"maleo.dev/mission": "cctv", "app.kubernetes.io/managed-by": "x"}}},
                       "have the labels"),
    "with host network": ({"spec": {"hostNetwork": True}}, "must not use host namespaces"),
    "with host files": ({"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, "than emptyDir"),
    "with files of a Secret": ({"spec": {"volumes": [{"name": "x", "secret": {"secretName": "s"}}]}}, "than emptyDir"),
    "with a ServiceAccount token": ({"spec": {"automountServiceAccountToken": True}}, "a ServiceAccount token"),
    "with an unrelated Secret": (
        {"spec": {"containers": [{"name": "slot", "image": "slot:1",
            "securityContext": {"allowPrivilegeEscalation": False},
            "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "bank", "key": "k"}}}]}]}},
        "must not read Secrets other than the identity",
    ),
    "privileged": (
        {"spec": {"containers": [{"name": "slot", "image": "slot:1", "securityContext": {"privileged": True}}]}},
        "must be unprivileged",
    ),
}  # fmt: skip


def test_operator_policy__confines_its_account_to_slots_of_missions(installed: Kubectl) -> None:
    """A stolen token of the operator must not give the rights of a cluster administrator."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    installed.create(account)
    unowned = _merge(_slot("s"), _FORBIDDEN_PODS["without an owner"][0])
    _await_denied(lambda: installed.create(unowned, _OPERATOR, "--dry-run=server"), _ONLY_CONTROLLED)
    for case, (change, message) in _FORBIDDEN_PODS.items():
        output = installed.create(_merge(_slot("s"), change), _OPERATOR, "--dry-run=server").stderr
        assert message in output, f"{case}: {output}"
    made = installed.create(_slot("s"), _OPERATOR)
    assert made.returncode == 0, made.stderr

    shop = _merge(_slot("shop"), {"metadata": {"ownerReferences": [], "labels": {"app": "shop"}}})
    assert installed.create(shop).returncode == 0
    adopt = json.dumps({"metadata": {"ownerReferences": _slot("s")["metadata"]["ownerReferences"]}})
    assert _ONLY_CONTROLLED in installed.run("patch", "pod/shop", "-p", adopt, "--type=merge", _OPERATOR).stderr
    assert _ONLY_CONTROLLED in installed.run("delete", "pod/shop", "--wait=false", _OPERATOR).stderr
    image = json.dumps({"spec": {"containers": [{"name": "slot", "image": "miner:1"}]}})
    assert "only the labels of pods, not their spec" in installed.run("patch", "pod/s", "-p", image, _OPERATOR).stderr
    label = json.dumps({"metadata": {"labels": {"more": "x"}}})
    assert installed.run("patch", "pod/s", "-p", label, "--type=merge", _OPERATOR).returncode == 0
    assert installed.run("delete", "pod/s", "--wait=false", _OPERATOR).returncode == 0


def test_operator_account__may_create_but_not_read_secrets(installed: Kubectl) -> None:
    meta = _slot("x")["metadata"]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta | {"name": "cctv-identity-1"}}
    minted = secret | {"type": "kubernetes.io/service-account-token"}
    annotated = minted | {
        "metadata": minted["metadata"] | {"annotations": {"kubernetes.io/service-account.name": "default"}}
    }
    _await_denied(
        lambda: installed.create(annotated, _OPERATOR, "--dry-run=server"), "may create only Secrets of type Opaque"
    )
    assert installed.create(secret, _OPERATOR).returncode == 0
    for verb in ("get", "list", "watch", "update", "patch", "delete"):
        assert installed.run("auth", "can-i", verb, "secrets", "-n", "default", _OPERATOR).stdout.strip() == "no", verb
    key = ["secrets/maleo-identity-key", "-n", NAMESPACE, _OPERATOR]
    assert installed.run("auth", "can-i", "get", *key).stdout.strip() == "yes"
    own = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "maleo-identity-key", "namespace": NAMESPACE}}
    assert installed.create(own, _OPERATOR, "--dry-run=server").returncode == 0
    elsewhere = _merge(own, {"metadata": {"namespace": "default"}})
    assert _ONLY_CONTROLLED in installed.create(elsewhere, _OPERATOR, "--dry-run=server").stderr


def _send_as_agent_of(node: str, plane: ControlPlane, method: str, path: str, body: Any) -> tuple[int, str]:
    """Send a dry run as the user that the API server derives from the token of an agent's pod on `node`."""
    tls = ssl.create_default_context(cafile=str(plane.ca_file))
    tls.load_cert_chain(plane.cert_file, plane.key_file)
    headers = {
        "Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json",
        "Impersonate-User": f"system:serviceaccount:{NAMESPACE}:maleo-agent",
        "Impersonate-Extra-authentication.kubernetes.io%2fnode-name": node,
    }
    url = f"{plane.url}{path}?dryRun=All"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, context=tls, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_agent_policy__lets_an_agent_write_for_its_own_node_only(
    installed: Kubectl, own_api_server: ControlPlane
) -> None:
    for node in ("n1", "n2"):
        device = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Device", "metadata": {"name": node}}
        assert installed.create(device | {"spec": {"nodeName": node}}).returncode == 0
    found = {"status": {"inventory": {"host": {"profile": "generic"}}}}
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"

    def report(node: str) -> tuple[int, str]:
        path = f"/apis/maleo.dev/v1alpha1/devices/{node}/status"
        return _send_as_agent_of("n1", own_api_server, "PATCH", path, found)

    def renew(name: str) -> tuple[int, str]:
        body = _lease(1) | {"metadata": {"name": name}}
        return _send_as_agent_of("n1", own_api_server, "POST", leases, body)

    denied = "an agent may write only objects of its own node: this token belongs to node n1"
    assert report("n1")[0] == 200
    assert (report("n2")[0], denied in report("n2")[1]) == (403, True)
    assert renew("maleo-agent-n1")[0] == 201
    assert (renew("maleo-other")[0], denied in renew("maleo-other")[1]) == (403, True)


def _definition(plural: str, kind: str) -> dict[str, Any]:
    """Return the CRD of a kind of the Prometheus operator, with a schema that accepts any object."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def test_monitors__refer_to_existing_labels_and_ports(installed: Kubectl, own_api_server: ControlPlane) -> None:
    kinds = {"servicemonitors": "ServiceMonitor", "podmonitors": "PodMonitor", "prometheusrules": "PrometheusRule"}
    for plural, kind in kinds.items():
        assert installed.create(_definition(plural, kind)).returncode == 0
        crd = f"crd/{plural}.monitoring.coreos.com"
        assert installed.run("wait", "--for=condition=Established", crd, "--timeout=30s").returncode == 0
    labelled = {"enabled": True, "labels": {"release": "prometheus"}}
    install(
        own_api_server.kubeconfig, _IMAGES, values=_VALUES | {"serviceMonitor": labelled, "prometheusRule": labelled}
    )
    found = {plural: installed.get(plural, "-n", NAMESPACE)["items"] for plural in kinds}
    assert [item["metadata"]["labels"]["release"] for items in found.values() for item in items] == ["prometheus"] * 3
    (of_service,), (of_pods,), (rules,) = found.values()

    service = installed.get("service/maleo-operator", "-n", NAMESPACE)
    assert of_service["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = of_service["spec"]["endpoints"]
    (port,) = [port for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
    operator = installed.get("deployment/maleo-operator", "-n", NAMESPACE)["spec"]["template"]["spec"]["containers"][0]
    assert port["targetPort"] in [port["name"] for port in operator["ports"]]
    assert port["port"] == 8082

    agents = installed.get("daemonset/maleo-agent", "-n", NAMESPACE)["spec"]["template"]
    assert of_pods["spec"]["selector"]["matchLabels"].items() <= agents["metadata"]["labels"].items()
    (endpoint,) = of_pods["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in agents["spec"]["containers"][0]["ports"]]
    assert [rule["targetLabel"] for rule in endpoint["relabelings"]] == ["node"], "the dashboards' queries need it"
    file = ROOT / "charts/maleo/rules/maleo.yaml"
    assert rules["spec"] == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_crds_chart__has_the_generated_files() -> None:
    ours = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "crds").glob("*.yaml")}
    theirs = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "charts/maleo-crds/templates").glob("*.yaml")}
    assert ours == theirs
    assert all(yaml.safe_load(text)["kind"] == "CustomResourceDefinition" for text in ours.values())


def test_metrics_of_the_operator__are_for_named_namespaces_alone(installed: Kubectl) -> None:
    """They name the missions of all tenants."""
    rules = installed.get("networkpolicy", "maleo-operator", "-n", NAMESPACE)["spec"]["ingress"]
    open_to = {port["port"]: rule.get("from") for rule in rules for port in rule["ports"]}
    allowed = {"namespaceSelector": {"matchLabels": {"maleo.dev/metrics": "allowed"}}}
    assert open_to == {"ingest": None, "health": None, "metrics": [{"podSelector": {}}, allowed]}
