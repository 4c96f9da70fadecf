"""`maleo` itself: its commands are imported when they are used."""

import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from maleo_cli.main import COMMANDS, app, load_command
from support.paths import ROOT

_HEAVY = {"numpy", "scipy", "onnx", "onnxruntime", "aiohttp", "yaml", "pydantic", "cryptography", "rich"}


def _imported(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(result.stdout.splitlines()[-1].split())


def test_help__imports_none_of_the_libraries_of_its_commands() -> None:
    code = "import maleo_cli.main\ntry: maleo_cli.main.app(['--help'])\nexcept SystemExit: pass"
    assert _imported(code) & _HEAVY == set()


def test_explain__imports_no_planner_unless_it_plans() -> None:
    libraries = {"maleo_planner", "numpy", "scipy", "onnx", "onnxruntime", "cryptography", "rich"}
    assert _imported("import maleo_cli.commands.explain") & libraries == set()


def test_replanning__imports_no_optimizer_and_no_model_runtime() -> None:
    libraries = {"scipy", "onnx", "onnxruntime", "cryptography", "rich"}
    assert _imported("import maleo_cli.replanning") & libraries == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_command__is_listed_with_the_beginning_of_its_own_help(name: str) -> None:
    summary, command = COMMANDS[name][1], load_command(name)
    if not hasattr(command, "commands"):
        assert " ".join(command.help.split()).startswith(summary)
    assert f"  {name} " in CliRunner().invoke(app, ["--help"]).stdout


_WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class _Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, _Missing())
sys.argv = ["maleo", *{words}]
from maleo_cli.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        ("onnx", "model import a:fp32=a.onnx --name a", "model"),
        ("onnxruntime", "model import a:fp32=a.onnx --name a", "model"),
        ("cryptography", "cluster status", "devcluster"),
        ("numpy", "plan -f .", "cli"),
        ("typer", "--help", "cli"),
    ],
)
def test_command_without_its_packages__names_the_extra_to_install(missing: str, words: str, extra: str) -> None:
    code = _WITHOUT.format(missing={missing}, words=words.split())
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert f" requires the Python package {missing}, which is not installed\n" in run.stderr
    assert f"\n  install the extra `{extra}`: pip install 'maleo-control-plane[{extra}]'\n" in run.stderr
    assert "Traceback" not in run.stderr
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


def test_missing_module_of_maleo__is_not_reported_as_a_missing_extra() -> None:
    code = _WITHOUT.format(missing={"maleo_planner"}, words=["plan"])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "No module named 'maleo_planner'" in run.stderr
    assert "install the extra" not in run.stderr


def test_plan_and_explain__need_only_the_cli_extra() -> None:
    unneeded = {"onnx", "onnxruntime", "kopf", "cryptography", "prometheus_client", "uv", "helm_python"}
    modules = (f"maleo_cli.commands.{name}" for name in ("explain", "install", "plan", "replay"))
    assert _imported(f"import {', '.join(modules)}") & unneeded == set()


def test_version__is_the_version_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout.split()[0]) == (0, "maleo")
    assert result.stdout.split()[1][0].isdigit()


def test_unknown_command__exits_with_code_2() -> None:
    result = CliRunner().invoke(app, ["plon"])
    assert result.exit_code == 2
    assert "plon" in result.output
