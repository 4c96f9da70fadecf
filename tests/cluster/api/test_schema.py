"""The API server refuses what the models and their rules refuse, and prints what people look for."""

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
def test_schema__refuses_with_the_message(api: Api, file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    expected = first.removeprefix("# expect: ")
    assert expected != first, f"{file} begins with `# expect: <message>`"
    refused = api.call("create", "--dry-run=server", "-f", str(file))
    assert refused.returncode == 1
    assert expected in refused.stderr
    assert not re.search("internal|evaluating rule", refused.stderr), (
        "a rule could not be evaluated: that tells its reader nothing"
    )


@pytest.mark.parametrize("percentile", [50, 95, 96, 99])
def test_schema__takes_every_percentile_without_a_number_of_samples(api: Api, percentile: int) -> None:
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
def test_schema__accepts_the_examples(api: Api, file: Path) -> None:
    accepted = api.call("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(file))
    assert accepted.returncode == 0, accepted.stderr


_FORMS = [
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


def test_schema__judges_the_size_of_a_cut_as_the_command_line_does(api: Api) -> None:
    """Of one Model for each form: by the API server's own words, and by those of manifests."""
    body = yaml.safe_load((MUST_FAIL / "cut-of-another-size.yaml").read_text(encoding="utf-8"))
    items = []
    for number, (size, datatype, shape) in enumerate(_FORMS):
        item = copy.deepcopy(body)
        item["metadata"]["name"] = f"net-{number}"
        cut = item["spec"]["variants"][0]["blocks"][0]["cut"]
        cut |= {"size": size, "tensors": [{"name": "t", "datatype": datatype, "shape": shape}]}
        items.append(item)
    made = api.call("create", "--dry-run=server", "-f", "-", body={"apiVersion": "v1", "kind": "List", "items": items})
    taken = {line.split()[0].partition("/")[2] for line in made.stdout.splitlines()}
    agreed = {
        f"net-{number}"
        for number, (size, datatype, shape) in enumerate(_FORMS)
        if is_size_consistent(
            Cut.model_validate({"size": size, "tensors": [{"name": "t", "datatype": datatype, "shape": shape}]})
        )
    }
    assert taken == agreed
    assert 0 < len(agreed) < len(_FORMS)
    assert made.stderr.count("must match its tensors by shapes and datatypes") == len(_FORMS) - len(agreed)


def test_schema__has_a_refusal_for_each_rule() -> None:
    """The rules of what people write; a Placement's are tested below, with a whole one."""
    expected = [file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expect: ") for file in _MUST_FAIL]
    told = [r.message for of, rules in RULES.items() if of not in (Placement, Span) for r in rules]
    assert [message for message in told if not any(message.startswith(start) for start in expected)] == []


def test_schema__fills_in_defaults_and_leaves_the_status_alone(api: Api) -> None:
    spec = {"model": {"name": "m"}, "input": {"node": "n"}, "objectives": {"latency": {"atMost": "50ms"}}}
    metadata = {"name": "least", "namespace": "default"}
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


def test_schema__keeps_the_spec_of_a_placement(api: Api) -> None:
    assert api.call("create", "-f", "-", body=_placement()).returncode == 0
    changed = api.call("apply", "--server-side", "--force-conflicts", "-f", "-", body=_placement(mode="Split"))
    api.call("delete", "placement/kept")
    assert "the spec of a Placement is immutable" in changed.stderr


def test_schema__refuses_a_span_that_ends_before_it_starts(api: Api) -> None:
    (partition,) = _placement()["spec"]["partitions"]
    backwards = _placement(partitions=[partition | {"span": {"first": 2, "last": 1}}])
    refused = api.call("create", "--dry-run=server", "-f", "-", body=backwards)
    assert "a span must not end before the block where it starts" in refused.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_kind__prints_its_columns_and_explains_itself(api: Api, kind: str) -> None:
    info = KINDS[kind]
    table = json.loads(api.call("get", "--raw", f"/apis/maleo.dev/v1alpha1/{info.plural}").stdout)
    assert table["kind"] == f"{kind}List"
    shown = json.loads(api.call("get", f"crd/{info.plural}.maleo.dev", "-o", "json").stdout)
    columns = [column["name"] for column in shown["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert columns == [column.name for column in COLUMNS[kind]]
    explained = api.call("explain", f"{info.plural}.spec")
    assert explained.returncode == 0
    assert "FIELDS:" in explained.stdout


def test_explain__tells_what_a_field_means(api: Api) -> None:
    explained = api.call("explain", "missions.spec.drift.coolDown")
    told = " ".join(explained.stdout.split())
    assert "Minimum time after a move before drift or an improvement may cause another one." in told
    assert "Default: `30s`." in told


_SHARES = {
    True: ("0%", "7.5%", "99.999999%", "100%", "100.000000%", "000100.0%", "009.9%"),
    False: ("100.000001%", "101%", "110%", "200%", "1000%", "999999999%", "000000101%"),
}


@pytest.mark.parametrize(("is_taken", "share"), [(taken, share) for taken, those in _SHARES.items() for share in those])
def test_schema__takes_no_share_above_one(api: Api, share: str, is_taken: bool) -> None:
    accuracy = {"metric": "top-1", "dataset": "d", "atLeast": share}
    spec = {"model": {"name": "m"}, "input": {"node": "n"}, "objectives": {"accuracy": accuracy}}
    body = {"apiVersion": "maleo.dev/v1alpha1", "kind": "Mission", "metadata": {"name": "share"}, "spec": spec}
    made = api.call("create", "-f", "-", "--dry-run=server", body=body)
    assert (made.returncode == 0) == is_taken, made.stderr
    assert is_taken or "accuracy.atLeast must be at most 100%" in made.stderr
