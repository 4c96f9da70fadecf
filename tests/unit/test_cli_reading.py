"""What `maleo plan` reads: manifests, and the shipped catalogue where they need it; how it ends when it cannot."""

import sys
from pathlib import Path

import pytest

from maleo_cli import main as command
from maleo_cli.failure import Failure
from maleo_cli.reading import read
from maleo_operator.planning.problem import Snapshot

ROOT = Path(__file__).parents[2]
_HEAD = "apiVersion: maleo.dev/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n---\n"
_NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: gate}\n---\n"


def _device(profile: str) -> str:
    return _NODE + _HEAD % ("Device", "gate", f"{{nodeName: gate, declared: [{{name: a, profile: {profile}}}]}}")


def _read(folder: Path, text: str, *profiles: str) -> Snapshot:
    (folder / "m.yaml").write_text(text, encoding="utf-8")
    return read([folder], live=False, kubeconfig=None, profiles=profiles)


def test_read__takes_a_profile_that_is_named_from_the_catalogue(tmp_path: Path) -> None:
    assert _read(tmp_path, _device("hailo-8")).profiles["hailo-8"].spec.vendor == "Hailo"


def test_read__lets_manifests_count_before_the_catalogue(tmp_path: Path) -> None:
    own = _HEAD % ("DeviceProfile", "hailo-8", "{vendor: own, product: p, computeUnits: [{name: npu, type: NPU}]}")
    alone = _read(tmp_path, _device("hailo-8") + own)
    assert set(alone.profiles) == {"hailo-8"}  # nothing is missing: the catalogue is not read
    beside = _read(tmp_path, _device("hailo-8") + own, "hailo-15")
    assert beside.profiles["hailo-8"].spec.vendor == "own"
    assert beside.profiles["hailo-15"].spec.vendor == "Hailo"


def test_read__names_what_is_near_in_the_catalogue_too(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        _read(tmp_path, _device("rockship-rk3588"))
    told = 'spec.declared[0].profile: "rockship-rk3588": no such DeviceProfile: did you mean rockchip-rk3588'
    assert told in str(caught.value)
    assert caught.value.exit_code == 2


def test_read__of_no_cluster_names_the_file_and_the_flag(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        read([], live=True, kubeconfig=tmp_path / "none", profiles=())
    assert str(caught.value) == (
        f"{tmp_path}/none: No such file or directory\n  name a kubeconfig with --kubeconfig or KUBECONFIG"
    )


def test_main__puts_its_name_before_every_mistake_and_none_before_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [ROOT / f"tests/must_fail/{name}.yaml" for name in ("rate-of-zero", "link-without-bandwidth")]
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
        "  name manifests with -f, or a cluster with --live",
    ]
