"""One Dockerfile for each component, none of which runs as root by default."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from maleo_cli.commands.cluster import app
from maleo_devcluster.images import COMPONENTS, Builder
from support.paths import ROOT


@pytest.mark.parametrize("component", COMPONENTS)
def test_dockerfile__is_small_takes_any_base_and_is_not_root(component: str) -> None:
    lines = (ROOT / COMPONENTS[component] / "Dockerfile").read_text(encoding="utf-8").splitlines()
    verbs = [line.split()[0] for line in lines if line and not line.startswith(("#", " "))]
    assert verbs[:2] == ["ARG", "FROM"]
    assert lines.count("ARG BASE") == 2, "no default: the builder names a base, which is recorded in the image"
    assert "LABEL org.opencontainers.image.base.name=${BASE}" in lines
    run = [line for line in lines if line.startswith("RUN")]
    assert all(line.startswith("RUN python3 -m compileall ") for line in run), "building needs no network"
    (user,) = [line.split()[1] for line in lines if line.startswith("USER")]
    assert user.split(":")[0] not in ("0", "root")


def test_folders__contain_all_that_an_image_builder_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an existing cluster: needs neither a devcluster nor root; Python packages are faked."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "aiohttp.py").touch()
    monkeypatch.setattr(Builder, "_packages", lambda _self, _component: packages)
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, ["build", "--prepare", str(tmp_path / "images")])
    assert result.exit_code == 0, result.output
    folders = {Path(line).name: Path(line) for line in result.output.splitlines()}
    assert set(folders) == {"operator", "agent", "slot"}
    for component, folder in folders.items():
        copied = [line.split()[1] for line in (folder / "Dockerfile").read_text().splitlines() if "COPY" in line]
        assert {path.name for path in folder.iterdir()} == {"Dockerfile", *copied}
        assert (folder / "site-packages/aiohttp.py").exists()
        own = {path.name for path in (folder / "maleo").iterdir()}
        programs = {
            "operator": {"maleo_operator", "maleo_planner", "maleo_kube"},
            "agent": {"maleo_agent", "maleo_kube", "maleo_artifacts"},
            "slot": {"maleo_runtime"},
        }
        assert own == {"maleo_api", "maleo_service", "maleo_wire", *programs[component]}
