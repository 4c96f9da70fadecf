"""Check an installed wheel: `installed.py CHECK ENVIRONMENT`, run by the Python of the environment with option -P.

modules: every module of the checkout is importable from the environment. commands: with all extras, the charts render
and models are imported. light: with extra `cli` alone, planning and installation work and the other commands name the
extra that they need. bare: without extras, `maleo` names the extra `cli`.

Commands run in an empty folder outside the checkout.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_HEAVY: Final = ("cryptography", "helm_python", "kopf", "onnx", "onnxruntime", "prometheus_client", "uv")
"""Packages that the command line alone must not pull."""
_FLEET: Final = [word for name in ("fleet", "models") for word in ("-f", str(_ROOT / "examples" / name))]
_MISSION: Final = ["-f", str(_ROOT / "examples/missions/drone-patrol.yaml")]
_HELM: Final = '#!/bin/sh\nprintf "%s\\n" "$*" >>"$0.log"\ncat >/dev/null\n'
"""Stand-in for `helm` that logs its arguments, so that `maleo install` needs no cluster."""


class Installed:
    """Installed wheel in `environment`; commands run in `folder`."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self.environment = environment
        self.folder = folder

    def run(self, *words: str, code: int, says: str = "", path: str = "") -> Iterator[str]:
        """Yield what is wrong with `maleo WORDS`: its exit code, or that its output lacks `says`. path: PATH."""
        command = [str(self.environment / "bin/maleo"), *words]
        variables = {"PATH": path or "/usr/bin:/bin", "HOME": str(self.folder), "COLUMNS": "120"}
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False)  # noqa: S603
        output = done.stdout + done.stderr
        if done.returncode != code or says not in output:
            yield f"`maleo {' '.join(words)}`: exit code {done.returncode}, expected {code} and {says!r} in:\n{output}"


def check_modules(installed: Installed) -> Iterator[str]:
    """Yield the modules of the checkout that the environment lacks or takes from elsewhere."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = [_ROOT / folder for folder in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    # Packages are found by __init__.py, so that one that is not listed in pyproject.toml is missed here as well.
    folders += [init.parent for init in _ROOT.glob("*/maleo_*/__init__.py") if init.parent.parent.name != "demo"]
    for folder in sorted(set(folders)):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found = find_spec(name)
            if found is None or found.origin is None or not Path(found.origin).is_relative_to(installed.environment):
                yield f"{name} is not installed by the wheel"


def check_commands(installed: Installed) -> Iterator[str]:
    """Yield what is wrong with the charts and with the commands that need an extra of their own."""
    from helm_python import Chart  # noqa: PLC0415 - not in the environments of the other checks

    from maleo_cli.charts import CHARTS  # noqa: PLC0415 - as above

    if not CHARTS.is_relative_to(installed.environment):
        yield f"charts are taken from {CHARTS}, not from the wheel"
    for chart, kind, minimum in (("maleo-crds", "CustomResourceDefinition", 7), ("maleo", "DeviceProfile", 40)):
        with Chart.load(CHARTS / chart) as loaded:
            rendered = "\n".join(loaded.render(name=chart, namespace="maleo-system").values())
        if rendered.count(f"kind: {kind}\n") < minimum:
            yield f"chart {chart} of the wheel renders fewer than {minimum} {kind}s"
    yield from installed.run(
        "model", "zoo", "squeezenet", "--out", "models", code=0, says="models/squeezenet-int8.onnx"
    )
    files = [f"{name}:{name}=models/squeezenet-{name}.onnx" for name in ("fp32", "int8")]
    yield from installed.run("model", "import", *files, "--name", "net", "-o", "net.yaml", code=0, says="net int8: ")
    yield from installed.run("cluster", "--help", code=0, says="kill-node")


def check_light(installed: Installed) -> Iterator[str]:
    """Yield packages that should not be there, and what is wrong with commands that need no other extra."""
    yield from (f"extra cli pulls {name}" for name in _HEAVY if find_spec(name) is not None)
    yield from installed.run("--help", code=0, says="explain")
    yield from installed.run("plan", *_FLEET, *_MISSION, "--explain", "--draw", "plan.svg", code=0, says="drone-patrol")
    added = ["--add-device", "hailo-10h", "--link", "drone-a1/added-1=1Gbit/s"]
    yield from installed.run("plan", *_FLEET, *_MISSION, *added, code=0, says="drone-patrol")
    yield from installed.run("plan", *_FLEET, *_MISSION, "--store", "stored", code=0)
    stored = [str(file) for file in (installed.folder / "stored").iterdir()]
    yield from installed.run("replay", *stored, code=0)
    yield from installed.run("explain", "x", "--kubeconfig", "none", code=2, says="none: No such file")
    for words, extra in (("model import a:fp32=a.onnx --name a", "model"), ("cluster status", "devcluster")):
        says = f"install the extra `{extra}`: pip install 'maleo-control-plane[{extra}]'"
        yield from installed.run(*words.split(), code=3, says=says)
    helm = installed.folder / "bin/helm"
    helm.parent.mkdir()
    helm.write_text(_HELM, encoding="utf-8")
    helm.chmod(0o755)
    yield from installed.run("install", "--kubeconfig", "none", code=0, path=f"{helm.parent}:/usr/bin:/bin")
    log = Path(f"{helm}.log")
    charts = [Path(line.split("--install ")[1].split()[1]) for line in log.read_text(encoding="utf-8").splitlines()]
    if [chart.name for chart in charts] != ["maleo-crds", "maleo"]:
        yield f"`maleo install` installed {charts}"
    yield from (f"{chart}: no chart of the wheel" for chart in charts if not _is_chart(chart, installed.environment))


def _is_chart(folder: Path, environment: Path) -> bool:
    return folder.is_relative_to(environment) and (folder / "Chart.yaml").is_file()


def check_bare(installed: Installed) -> Iterator[str]:
    """Yield what is wrong with the message of `maleo` without its packages."""
    yield from installed.run("--help", code=3, says="pip install 'maleo-control-plane[cli]'")


CHECKS: Final[dict[str, Callable[[Installed], Iterator[str]]]] = {
    "modules": check_modules,
    "commands": check_commands,
    "light": check_light,
    "bare": check_bare,
}


def main() -> int:
    """Print what is wrong; return exit code 1 if anything is."""
    check, environment = CHECKS[sys.argv[1]], Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        problems = list(check(Installed(environment, Path(folder))))
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
