"""`maleo` with kubeconfigs of users: credential plugins, several contexts, namespaces of contexts."""

import json
import os
import stat
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from maleo_cli.errors import Failure
from maleo_cli.main import app
from maleo_devcluster.control_plane import ControlPlane
from maleo_kube.client import Client
from maleo_kube.plugins import load_access
from maleo_kube.resources import MISSIONS
from support.paths import ROOT

pytestmark = pytest.mark.cluster

_MISSION = "drone-patrol"
Write = Callable[[dict[str, Any], str], Path]


@pytest.fixture(scope="module")
def cluster(own_api_server: ControlPlane) -> ControlPlane:
    """An API server with one mission, in namespace team-a, and an account `reader` that may read everything."""

    def kubectl(*arguments: str) -> None:
        command = ["kubectl", "--kubeconfig", str(own_api_server.kubeconfig), *arguments]
        subprocess.run(command, check=True, capture_output=True, text=True)

    kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    kubectl("create", "namespace", "team-a")
    kubectl("apply", "-n", "team-a", "-f", str(ROOT / f"examples/missions/{_MISSION}.yaml"))
    kubectl("create", "serviceaccount", "reader", "-n", "default")
    kubectl("create", "clusterrolebinding", "reader", "--clusterrole=cluster-admin", "--serviceaccount=default:reader")
    return own_api_server


@pytest.fixture
def write(cluster: ControlPlane, tmp_path: Path) -> Write:
    """Return a function that writes a kubeconfig with a user, who has contexts `field` (of a namespace) and `bare`."""

    def write_kubeconfig(user: dict[str, Any], namespace: str) -> Path:
        config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
        authority = config["clusters"][0]["cluster"]
        if "certificate-authority" in authority:
            authority["certificate-authority"] = str(cluster.ca_file)
        where = {"cluster": config["clusters"][0]["name"], "user": "u"}
        config["contexts"] = [
            {"name": "field", "context": {**where, "namespace": namespace}},
            {"name": "bare", "context": where},
        ]
        config |= {"current-context": "field", "users": [{"name": "u", "user": user}]}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config), encoding="utf-8")
        return tmp_path / "kubeconfig"

    return write_kubeconfig


def _plugin(folder: Path, status: dict[str, str]) -> dict[str, Any]:
    """Return the user of a kubeconfig with a plugin that returns the credentials in `status` if called correctly."""
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    program = folder / "login"
    program.write_text(
        '#!/bin/sh\n[ "$1" = get-token ] && [ -n "$KUBERNETES_EXEC_INFO" ] || { echo "log in first" >&2; exit 7; }\n'
        f'echo called >>{folder}/calls\ncat "$ANSWER"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    environment = [{"name": "ANSWER", "value": str(folder / "answer.json")}]
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": str(program), "args": ["get-token"], "env": environment}}


def _token(cluster: ControlPlane) -> str:
    command = ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "create", "token", "reader", "-n", "default"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _explain(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["explain", _MISSION, *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 1, "the mission is not Ready: nothing runs here"
    return result.stdout


def test_explain__uses_the_token_or_certificate_of_a_credential_plugin(
    cluster: ControlPlane, write: Write, tmp_path: Path
) -> None:
    token = _plugin(tmp_path, {"token": _token(cluster)})
    assert _explain("--kubeconfig", write(token, "team-a")).startswith(f"{_MISSION}  not Ready")
    admin = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))["users"][0]["user"]

    def content(name: str) -> str:
        data = admin.get(f"{name}-data")
        return b64decode(data).decode() if data else Path(admin[name]).read_text(encoding="ascii")

    pair = {"clientCertificateData": content("client-certificate"), "clientKeyData": content("client-key")}
    certificate = _plugin(tmp_path, pair)
    assert _explain("--kubeconfig", write(certificate, "team-a")).startswith(f"{_MISSION}  not Ready")


def test_explain__selects_context_and_namespace_as_kubectl_does(
    cluster: ControlPlane, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write({"token": _token(cluster)}, "team-a")
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["/none/config", str(file)]))
    assert _explain().startswith(_MISSION), "the namespace of the current context"
    with pytest.raises(Failure, match=f"mission '{_MISSION}' not found in namespace 'default'"):
        _explain("--context", "bare")
    for option in ("-n", "--namespace"):
        assert _explain("--context", "bare", option, "team-a").startswith(_MISSION)
    with pytest.raises(Failure, match="no context none: the contexts are bare, field"):
        _explain("--context", "none")


def test_plan__puts_manifests_without_a_namespace_where_kubectl_would(cluster: ControlPlane, write: Write) -> None:
    file = write({"token": _token(cluster)}, "team-a")
    mission = str(ROOT / f"examples/missions/{_MISSION}.yaml")
    planned = CliRunner().invoke(app, ["plan", "--live", "-f", mission, "-o", "json", "--kubeconfig", str(file)])
    assert list(json.loads(planned.stdout)["missions"]) == [f"team-a/{_MISSION}"], "it replaces the one of the cluster"


def test_failed_plugin__is_reported_with_its_output(write: Write, tmp_path: Path) -> None:
    user = _plugin(tmp_path, {})
    user["exec"]["args"] = []
    with pytest.raises(
        Failure, match=r"context field: credential plugin .*login: exec: process returned 7.*log in first"
    ):
        _explain("--kubeconfig", write(user, "team-a"))
    user["exec"]["command"] = str(tmp_path / "none")
    with pytest.raises(Failure, match=r"credential plugin .*none: .*No such file"):
        _explain("--kubeconfig", write(user, "team-a"))


async def test_long_running_client__calls_the_plugin_again_before_the_token_expires(
    cluster: ControlPlane, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    user = _plugin(tmp_path, {"token": _token(cluster), "expirationTimestamp": soon})
    async with Client(await load_access(write(user, "team-a"))) as client:
        await client.list(MISSIONS)
        assert len((tmp_path / "calls").read_text().splitlines()) == 1
        monkeypatch.setattr("maleo_kube.plugins._RENEW_S", 0.0)
        await client.list(MISSIONS)
        assert len((tmp_path / "calls").read_text().splitlines()) == 2
