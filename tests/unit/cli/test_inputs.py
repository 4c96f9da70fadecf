"""Inputs of `maleo plan`: manifests, and the catalogue that ships where they need it; errors if they are invalid."""

import sys
from pathlib import Path

import pytest

from maleo_api.manifests import Manifests
from maleo_cli import main as command
from maleo_cli.connection import Connection
from maleo_cli.errors import Failure
from maleo_cli.inputs import read_inputs
from maleo_planner.types.problem import Snapshot
from support.paths import MUST_FAIL

_HEAD = "apiVersion: maleo.dev/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n---\n"
_NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: gate}\n---\n"


def _device(profile: str) -> str:
    return _NODE + _HEAD % ("Device", "gate", f"{{nodeName: gate, declared: [{{name: a, profile: {profile}}}]}}")


def _read(folder: Path, text: str, *profiles: str) -> Snapshot:
    (folder / "m.yaml").write_text(text, encoding="utf-8")
    return read_inputs([folder], cluster=None, profiles=profiles).snapshot


def test_read__loads_referenced_profiles_from_the_catalogue(tmp_path: Path) -> None:
    assert _read(tmp_path, _device("hailo-8")).profiles["hailo-8"].spec.vendor == "Hailo"


def test_read__prefers_manifests_to_the_catalogue(tmp_path: Path) -> None:
    own = _HEAD % ("DeviceProfile", "hailo-8", "{vendor: own, product: p, computeUnits: [{name: npu, type: NPU}]}")
    alone = _read(tmp_path, _device("hailo-8") + own)
    assert set(alone.profiles) == {"hailo-8"}  # no profile is missing: the catalogue is not read
    both = _read(tmp_path, _device("hailo-8") + own, "hailo-15")
    assert both.profiles["hailo-8"].spec.vendor == "own"
    assert both.profiles["hailo-15"].spec.vendor == "Hailo"


def test_read__suggests_similar_names_of_the_catalogue(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        _read(tmp_path, _device("rockship-rk3588"))
    message = 'spec.declared[0].profile: "rockship-rk3588": DeviceProfile not found: did you mean rockchip-rk3588'
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_missing_kubeconfig__is_reported_with_the_file_and_the_flag(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        Connection(tmp_path / "none").open()
    assert str(caught.value) == (
        f"{tmp_path}/none: No such file or directory\n  pass a kubeconfig with --kubeconfig or KUBECONFIG"
    )


_TAINTED = """apiVersion: v1
kind: Node
metadata: {name: gate}
spec: {taints: [{key: dedicated, value: npu, effect: NoSchedule}]}
"""


def test_read__takes_tolerations_from_the_values_file_or_else_the_cluster(tmp_path: Path) -> None:
    file, values = tmp_path / "m.yaml", tmp_path / "values.yaml"
    file.write_text(_TAINTED, encoding="utf-8")
    values.write_text("slots: {tolerations: [{key: dedicated, operator: Exists}]}\n", encoding="utf-8")
    tolerant = Manifests(tolerations=({"key": "dedicated", "operator": "Exists"},))

    def taints(cluster: Manifests | None, given: Path | None) -> tuple[str, ...]:
        return read_inputs([file], cluster=cluster, profiles=(), values=given).snapshot.nodes["gate"].taints

    assert taints(None, None) == taints(Manifests(), None) == ("dedicated=npu:NoSchedule",)
    assert taints(None, values) == taints(tolerant, None) == ()
    values.write_text("slots: {}\n", encoding="utf-8")
    assert taints(tolerant, values) == ("dedicated=npu:NoSchedule",), "as if the chart were installed with these values"


@pytest.mark.parametrize(
    "slots", ["7", "{tolerations: dedicated}", "{tolerations: [dedicated]}", "{tolerations: {a: b}}"]
)
def test_read__rejects_values_without_a_list_of_tolerations(tmp_path: Path, slots: str) -> None:
    (tmp_path / "m.yaml").write_text(_TAINTED, encoding="utf-8")
    (tmp_path / "values.yaml").write_text(f"slots: {slots}\n", encoding="utf-8")
    with pytest.raises(Failure, match=r"slots\.tolerations: not a list of tolerations") as caught:
        read_inputs([tmp_path / "m.yaml"], cluster=None, profiles=(), values=tmp_path / "values.yaml")
    assert caught.value.exit_code == 2


def test_main__prefixes_every_error_but_no_remedy_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [MUST_FAIL / f"{name}.yaml" for name in ("rate-of-zero", "link-without-bandwidth")]
    monkeypatch.setattr(sys, "argv", ["maleo", "plan", *(word for file in files for word in ("-f", str(file)))])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert [line.partition(".yaml")[0] for line in capsys.readouterr().err.splitlines()] == [
        f"maleo: {file.with_suffix('')}" for file in files
    ]
    monkeypatch.setattr(sys, "argv", ["maleo", "plan"])
    with pytest.raises(SystemExit):
        command.main()
    assert capsys.readouterr().err.splitlines() == [
        "maleo: nothing to plan",
        "  pass manifests with -f, or use --live to read a cluster",
    ]
