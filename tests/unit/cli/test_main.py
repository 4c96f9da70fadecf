"""`maleo` itself: its commands are imported when they are used."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from maleo_cli.main import COMMANDS, app, load_command

_HEAVY = {"numpy", "scipy", "onnx", "onnxruntime", "aiohttp", "yaml", "pydantic", "cryptography", "rich"}


def _imported(code: str) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(told.stdout.splitlines()[-1].split())


def test_help__imports_none_of_the_libraries_of_its_commands() -> None:
    code = "import maleo_cli.main\ntry: maleo_cli.main.app(['--help'])\nexcept SystemExit: pass"
    assert _imported(code) & _HEAVY == set()


def test_explain__imports_no_optimizer_and_no_model_runtime() -> None:
    assert (
        _imported("import maleo_cli.commands.explain") & {"scipy", "onnx", "onnxruntime", "cryptography", "rich"}
        == set()
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_command__is_found_and_told_in_the_words_of_its_own_help(name: str) -> None:
    said, command = COMMANDS[name][1], load_command(name)
    if not hasattr(command, "commands"):
        assert " ".join(command.help.split()).startswith(said)
    assert f"  {name} " in CliRunner().invoke(app, ["--help"]).stdout


def test_version__is_that_of_the_package() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout.split()[0]) == (0, "maleo")
    assert told.stdout.split()[1][0].isdigit()


def test_unknown_command__is_wrong_use() -> None:
    told = CliRunner().invoke(app, ["plon"])
    assert told.exit_code == 2
    assert "plon" in told.output
