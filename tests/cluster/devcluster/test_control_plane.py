"""The control plane that the other cluster tests use."""

import json
import ssl
import urllib.request

import pytest

from maleo_devcluster.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


def _call(plane: ControlPlane, path: str, body: dict[str, object] | None = None) -> dict[str, object]:
    tls = ssl.create_default_context(cafile=str(plane.ca_file))
    tls.load_cert_chain(plane.cert_file, plane.key_file)
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(plane.url + path, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, context=tls, timeout=10) as response:
        content: dict[str, object] = json.load(response)
        return content


def test_control_plane__writes_an_audit_log(api_server: ControlPlane) -> None:
    name = {"metadata": {"name": "audited"}}
    _call(api_server, "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", **name})
    events = [json.loads(line) for line in api_server.audit_log.read_text().splitlines()]
    written = [(e["verb"], e["user"]["username"]) for e in events if e["objectRef"].get("name") == "audited"]
    assert written == [("create", "admin")]


def test_control_plane__has_the_pinned_version(api_server: ControlPlane) -> None:
    assert _call(api_server, "/version")["gitVersion"] == "v1.35.8"
