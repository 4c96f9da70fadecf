"""The API server rejects what the models and their rules reject, and prints columns and explanations."""

import copy
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from maleo_api.columns import COLUMNS
from maleo_api.kinds import KINDS
from maleo_api.model import Cut
from maleo_api.placement import Placement, Span
from maleo_api.rules import RULES, is_size_consistent
from maleo_devcluster.control_plane import ControlPlane
from support.paths import MUST_FAIL, ROOT

pytestmark = pytest.mark.cluster

_MUST_FAIL = sorted(MUST_FAIL.glob("*.yaml"))
_EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


class Api:
    def __init__(self, plane: ControlPlane) -> None:
        self._kubeconfig = plane.kubeconfig

    def call(self, *arguments: str, body: Any = None) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "--kubeconfig", str(self._kubeconfig), *arguments]
        stdin = None if body is None else json.dumps(body)
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def api(api_server: ControlPlane) -> Api:
    api = Api(api_server)
    applied = api.call("apply", "--server-side", "-f", str(ROOT / "crds"))
    assert applied.returncode == 0, applied.stderr
    established = api.call("wait", "--for=condition=Established", "--timeout=60s", "-f", str(ROOT / "crds"))
    assert established.returncode == 0, established.stderr
    return api


@pytest.mark.parametrize("file", _MUST_FAIL, ids=lambda file: file.stem)
def test_invalid_manifest__is_rejected_with_its_message(api: Api, file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    expected = first.removeprefix("# expect: ")
    assert expected != first, f"{file} begins with `# expect: <message>`"
    rejected = api.call("create", "--dry-run=server", "-f", str(file))
    assert rejected.returncode == 1
    assert expected in rejected.stderr
    assert not re.search("internal|evaluating rule", rejected.stderr), (
        "a rule could not be evaluated, which is no helpful message"
    )


@pytest.mark.parametrize("percentile", [50, 95, 96, 99])
def test_percentile_without_a_number_of_samples__is_accepted(api: Api, percentile: int) -> None:
    latency = {"percentile": percentile, "atMost": "50ms", "window": "1m"}
    spec = {
        "model": {"name": "m"},
        "input": {"node": "n"},
        "objectives": {"latency": latency},
        "demand": {"rate": "30/min"},
    }
    body = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "metadata": {"name": "few"}, "spec": spec}
    made = api.call("create", "-f", "-", "--dry-run=server", body=body)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("file", _EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_examples__are_accepted(api: Api, file: Path) -> None:
    accepted = api.call("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(file))
    assert accepted.returncode == 0, accepted.stderr


_SIZES = [
    (size, datatype, shape)
    for datatype, shape in (
        ("FP32", [1, 1000]),
        ("FP16", [-1, 1000]),
        ("INT64", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("UINT8", [1, -1, 768]),
        ("BOOL", [-1, -1, 768]),
        ("FP32", []),
    )
    for size in ("3", "4", "768", "2000", "4Ki", "3.91Ki", "315Ki", "3Mi")
]


def test_size_of_a_cut__is_validated_as_by_the_command_line(api: Api) -> None:
    """One Model for each combination is validated by the API server and by the rule of manifests."""
    body = yaml.safe_load((MUST_FAIL / "cut-of-another-size.yaml").read_text(encoding="utf-8"))
    items = []
    for number, (size, datatype, shape) in enumerate(_SIZES):
        item = copy.deepcopy(body)
        item["metadata"]["name"] = f"net-{number}"
        cut = item["spec"]["variants"][0]["blocks"][0]["cut"]
        cut |= {"size": size, "tensors": [{"name": "t", "datatype": datatype, "shape": shape}]}
        items.append(item)
    made = api.call("create", "--dry-run=server", "-f", "-", body={"apiVersion": "v1", "kind": "List", "items": items})
    accepted = {line.split()[0].partition("/")[2] for line in made.stdout.splitlines()}
    consistent = {
        f"net-{number}"
        for number, (size, datatype, shape) in enumerate(_SIZES)
        if is_size_consistent(
            Cut.model_validate({"size": size, "tensors": [{"name": "t", "datatype": datatype, "shape": shape}]})
        )
    }
    assert accepted == consistent
    assert 0 < len(consistent) < len(_SIZES)
    assert made.stderr.count("must match its tensors by shapes and datatypes") == len(_SIZES) - len(consistent)


def test_every_rule__has_an_invalid_manifest() -> None:
    """Rules of Placements, which users do not write, are tested below."""
    expected = [file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expect: ") for file in _MUST_FAIL]
    messages = [r.message for of, rules in RULES.items() if of not in (Placement, Span) for r in rules]
    assert [message for message in messages if not any(message.startswith(start) for start in expected)] == []


def test_schema__sets_defaults_but_no_status(api: Api) -> None:
    spec = {"model": {"name": "m"}, "input": {"node": "n"}, "objectives": {"latency": {"atMost": "50ms"}}}
    metadata = {"name": "minimal", "namespace": "default"}
    body = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "metadata": metadata, "spec": spec}
    made = json.loads(api.call("create", "-f", "-", "--dry-run=server", "-o", "json", body=body).stdout)
    assert made["spec"]["objectives"]["latency"]["window"] == "10s"
    assert made["spec"]["modes"] == ["Local", "Split", "Remote"]
    assert "status" not in made


def _placement(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1]}
    digest = "sha256:" + "0" * 64
    partition = {"name": "p0", "span": {"first": 0, "last": 0}, "node": "n", "unit": "host/cpu", "memory": "1Mi"}
    spec: dict[str, Any] = {
        "mission": "m", "revision": 1, "epoch": 1, "mode": "Local", "model": "m", "variant": "v", "entryNode": "n",
        "artifact": {"uri": "file:///m.onnx", "digest": digest, "format": "onnx", "size": "1Mi"},
        "partitions": [partition | {"inputs": [tensor], "outputs": [tensor]}],
        "predicted": {}, "reason": "FirstPlacement", "inputsDigest": digest,
    }  # fmt: skip
    metadata = {"name": "kept", "namespace": "default"}
    return {"apiVersion": "maleo.dev/v1alpha1", "kind": "Placement", "metadata": metadata, "spec": spec | changes}


def test_spec_of_a_placement__is_immutable(api: Api) -> None:
    assert api.call("create", "-f", "-", body=_placement()).returncode == 0
    changed = api.call("apply", "--server-side", "--force-conflicts", "-f", "-", body=_placement(mode="Split"))
    api.call("delete", "placement/kept")
    assert "the spec of a Placement is immutable" in changed.stderr


def test_span_that_ends_before_its_start__is_rejected(api: Api) -> None:
    (partition,) = _placement()["spec"]["partitions"]
    backwards = _placement(partitions=[partition | {"span": {"first": 2, "last": 1}}])
    rejected = api.call("create", "--dry-run=server", "-f", "-", body=backwards)
    assert "a span must not end before the block where it starts" in rejected.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_kind__has_its_printer_columns_and_an_explanation(api: Api, kind: str) -> None:
    info = KINDS[kind]
    table = json.loads(api.call("get", "--raw", f"/apis/maleo.dev/v1alpha1/{info.plural}").stdout)
    assert table["kind"] == f"{kind}List"
    shown = json.loads(api.call("get", f"crd/{info.plural}.maleo.dev", "-o", "json").stdout)
    columns = [column["name"] for column in shown["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert columns == [column.name for column in COLUMNS[kind]]
    explained = api.call("explain", f"{info.plural}.spec")
    assert explained.returncode == 0
    assert "FIELDS:" in explained.stdout


def test_explain__describes_a_field(api: Api) -> None:
    explained = api.call("explain", "missions.spec.drift.coolDown")
    text = " ".join(explained.stdout.split())
    assert "Minimum time after a move before drift or an improvement may cause another one." in text
    assert "Default: `30s`." in text


_SHARES = {
    True: ("0%", "7.5%", "99.999999%", "100%", "100.000000%", "000100.0%", "009.9%"),
    False: ("100.000001%", "101%", "110%", "200%", "1000%", "999999999%", "000000101%"),
}


@pytest.mark.parametrize(
    ("is_accepted", "share"), [(accepted, share) for accepted, shares in _SHARES.items() for share in shares]
)
def test_share_above_100_percent__is_rejected(api: Api, share: str, is_accepted: bool) -> None:
    accuracy = {"metric": "top-1", "dataset": "d", "atLeast": share}
    spec = {"model": {"name": "m"}, "input": {"node": "n"}, "objectives": {"accuracy": accuracy}}
    body = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "metadata": {"name": "share"}, "spec": spec}
    made = api.call("create", "-f", "-", "--dry-run=server", body=body)
    assert (made.returncode == 0) == is_accepted, made.stderr
    assert is_accepted or "accuracy.atLeast must be at most 100%" in made.stderr
