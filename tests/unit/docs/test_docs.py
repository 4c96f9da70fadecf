"""The documentation is compared with the project."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import maleo_planner
from maleo_cli.commands.cluster import app
from maleo_cli.main import app as maleo
from maleo_devcluster import host
from support.paths import ROOT

REFERENCE = runpy.run_path(str(ROOT / "tools/reference.py"))
_MAP = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Module map")[2]
_SECTION = re.compile(r"^### [^`\n]+: `(?P<folder>[^`]+)/`\n(?P<text>.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
_NAMED = {match["folder"]: match["text"] for match in _SECTION.finditer(_MAP)}
_PROGRAMS = ("crds", "lib", "planner", "operator", "node_agent", "runtime", "cli")


def _modules(folder: str) -> set[str]:
    """Return the modules below `folder`, except those of packages with a section of their own."""
    found = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]
    apart = [Path(other).relative_to(folder) for other in _NAMED if other.startswith(f"{folder}/")]
    return {str(path.with_suffix("")) for path in found if not any(path.is_relative_to(other) for other in apart)}


@pytest.mark.parametrize("folder", _NAMED)
def test_map__lists_exactly_the_existing_modules(folder: str) -> None:
    cells = [line.split("|")[1] for line in _NAMED[folder].splitlines() if line.startswith("| `")]
    named = re.findall(r"`([^`]+)`", "".join(cells))
    assert sorted(named) == sorted(_modules(folder))


def test_map__has_every_package_of_the_programs() -> None:
    packages = {str(init.parent.relative_to(ROOT)) for top in _PROGRAMS for init in (ROOT / top).glob("*/__init__.py")}
    assert packages <= set(_NAMED)


def test_reference_pages__match_the_code() -> None:
    for name, text in REFERENCE["pages"]().items():
        assert (ROOT / "docs/reference" / name).read_text(encoding="utf-8") == text, "run `make references`"


@pytest.mark.parametrize("program", ["operator/maleo_operator", "node_agent/maleo_agent"])
def test_metrics__are_all_documented(program: str) -> None:
    made = set(re.findall(r'"(maleo_[a-z_]+)"', (ROOT / program / "metrics.py").read_text(encoding="utf-8")))
    text = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    documented = {name.removesuffix("_total") for name in re.findall(r"maleo_[a-z_]+", text)}
    assert made
    assert made <= documented


def test_system_packages__are_all_documented() -> None:
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"[a-z][a-z0-9-]+", text.partition("System packages")[2].partition("\n\n")[0]))
    assert {*host.PROGRAMS.values(), "containernetworking-plugins", "prometheus"} <= listed


def test_python_packages__have_a_row_and_a_pin_each() -> None:
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    groups = [project["project"]["dependencies"], *extras.values(), *project["dependency-groups"].values()]
    packages = {re.split(r"[\[>=]", package)[0] for group in groups for package in group} - {project["project"]["name"]}
    assert sorted(packages) == sorted(", ".join(_first_cells(text, "| package |")).split(", "))
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert {package.lower() for package in packages} <= set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    listed = ", ".join(_first_cells(text, "| extra of")).replace("`", "").split(", ")
    assert listed == ["none", *extras]


def _first_cells(text: str, header: str) -> list[str]:
    """Return the first cell of each row of the table whose header begins with `header`."""
    _, _, *rows = (header + text.partition(header)[2].partition("\n\n")[0]).splitlines()
    return [row.split(" | ")[0].removeprefix("| ") for row in rows]


def test_commands_of_the_devcluster__are_all_documented() -> None:
    text = (ROOT / "docs/concepts/devcluster.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `maleo cluster"))
    names = {command.name or str(command.callback and command.callback.__name__) for command in app.registered_commands}
    assert names <= set(re.findall(r"[a-z]+(?:-[a-z]+)?", rows.replace("`maleo cluster", "`")))


def test_readme__quotes_the_output_of_the_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quoted lines appear in this order when the command runs in the repository."""
    monkeypatch.chdir(ROOT)
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split("$ maleo plan ", 1)[1].split("\n...", 1)[0]
    command, *quoted = shown.splitlines()
    printed = [line.rstrip() for line in CliRunner().invoke(maleo, ["plan", *command.split()]).output.splitlines()]
    assert quoted
    assert [line for line in printed if line in quoted] == quoted


def test_inference_protocol__names_existing_tests() -> None:
    text = (ROOT / "docs/reference/inference-protocol.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert named
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_security_claims__name_existing_tests_and_policies() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    tests = re.findall(r"`(tests/[^`:]+)(?:::(\w+))?`", text)
    assert len(tests) > 10
    for path, name in tests:
        assert (ROOT / path).is_file(), path
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8") or not name, name
    policies = (ROOT / "charts/maleo/templates/policies.yaml").read_text(encoding="utf-8")
    named = re.findall(r"`(maleo-(?:agent|safety|priority))`", text)
    assert named
    assert all(f"metadata: {{name: {name}}}" in policies for name in named)


def test_readme_of_the_planner__shows_code_that_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "planner/README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, "planner/README.md", "exec"), {})
    assert " ms\n" in capsys.readouterr().out


def test_public_names_of_the_planner__exist() -> None:
    names = maleo_planner.__all__
    assert len(names) == len(set(names))
    assert all(hasattr(maleo_planner, name) for name in names)
