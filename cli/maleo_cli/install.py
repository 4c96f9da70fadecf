"""`maleo install` and `maleo uninstall`: manage the two charts by the Helm library if installed, else by `helm`."""

import asyncio
import contextlib
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import typer
import yaml

from maleo_api.kinds import KINDS
from maleo_api.meta import GROUP
from maleo_cli.failure import Failure
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, NotFound
from maleo_kube.resources import CRDS

CHARTS: Final = Path(__file__).resolve().parents[2] / "charts"
NAMESPACE: Final = "maleo-system"
_CRDS: Final = "maleo-crds"
_RELEASES: Final = (_CRDS, "maleo")  # in order of installation: the second contains resources of the first's kinds
_CRDS_WAIT_S: Final = 60
_CRD_LOOK_S: Final = 10.0
_CRD_LOOKS: Final = 12


class Helm(Protocol):
    """Interface of the Helm library and program. Methods raise HelmFailed with Helm's error message."""

    def apply(self, release: str, chart: Path, values: Mapping[str, Any], *, wait_s: int) -> None:
        """Install or upgrade a release. wait_s: seconds to wait for readiness; 0 does not wait."""

    def remove(self, release: str) -> None:
        """Remove a release; do nothing if it does not exist."""


class HelmFailed(Exception):
    pass


def install(
    kubeconfig: Path,
    images: Mapping[str, str],
    namespace: str = NAMESPACE,
    values: Mapping[str, Any] | None = None,
    *,
    charts: Path = CHARTS,
    wait_s: int = 0,
) -> None:
    """Install or upgrade the CRDs and Maleo. Raise Failure with Helm's error message.

    images: operator, agent, slot -> image reference. values: overrides of the chart's values.
    wait_s: seconds to wait until everything is ready; 0 does not wait.
    """
    merged = {**(values or {})}
    if images:
        merged["images"] = {**merged.get("images", {}), **images}
    helm = find_helm(kubeconfig, namespace)
    _run(partial(helm.apply, _CRDS, _chart(charts, _CRDS), {}, wait_s=_CRDS_WAIT_S))
    _run(partial(helm.apply, "maleo", _chart(charts, "maleo"), merged, wait_s=wait_s))


def uninstall(kubeconfig: Path, namespace: str = NAMESPACE, *, crds: bool = False) -> None:
    """Remove Maleo. crds: also delete the CRDs, and with them every mission, and wait until they are gone."""
    helm = find_helm(kubeconfig, namespace)
    for release in reversed(_RELEASES if crds else _RELEASES[1:]):
        _run(partial(helm.remove, release))
    if crds:
        try:
            asyncio.run(_delete_crds(kubeconfig))
        except ApiError as error:
            raise Failure(f"the custom resources are not removed: {error}", "run the command again") from error


async def _delete_crds(kubeconfig: Path) -> None:
    """Delete the CRDs, which Helm keeps because of the chart's annotation, and wait until they are gone."""
    names = {f"{info.plural}.{GROUP}" for info in KINDS.values()}
    async with Client.from_kubeconfig(kubeconfig) as client:
        for name in sorted(names):
            await client.delete(CRDS, name)
        for look in range(_CRD_LOOKS):
            there = await client.list(CRDS)
            left = names & {item["metadata"]["name"] for item in there.items}
            changes = client.watch(CRDS, resource_version=there.resource_version, silence_s=_CRD_LOOK_S)
            while left and (change := await anext(changes, None)) is not None:
                if change.type == "DELETED":
                    left.discard(change.object["metadata"]["name"])
            if not left:
                return
            await _remind(client, left, look)
    raise Failure(f"still being removed: {', '.join(sorted(left))}", "wait, and run the command again")


async def _remind(client: Client, names: Iterable[str], look: int) -> None:
    """Trigger the API server's finalizer of CRDs in deletion by changing an annotation of each.

    With a stale cache the finalizer gives up until its next resync, up to five minutes later.
    """
    for name in names:
        with contextlib.suppress(NotFound):
            await client.merge(CRDS, name, {"metadata": {"annotations": {f"{GROUP}/removal": f"look-{look}"}}})


def find_helm(kubeconfig: Path, namespace: str) -> Helm:
    """Return the Helm library if installed, else the program. Raise Failure if there is neither."""
    if importlib.util.find_spec("helm_python"):
        return HelmLibrary(kubeconfig, namespace)
    program = shutil.which("helm")
    if program is None:
        raise Failure("Helm is not on this machine", "install `helm`, or the Python package helm-python-sdk")
    return HelmProgram(program, kubeconfig, namespace)


class HelmLibrary:
    """Helm by the Python library, in this process."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._namespace = namespace

    def apply(self, release: str, chart: Path, values: Mapping[str, Any], *, wait_s: int) -> None:
        import helm_python  # noqa: PLC0415 - an optional dependency

        options: dict[str, Any] = {"namespace": self._namespace}
        if wait_s:
            options |= {"timeout": wait_s, "wait": "watcher"}
        try:
            with self._connect() as config:
                if self._is_installed(config, release):
                    config.upgrade(chart, release, dict(values), **options)
                else:
                    config.install(chart, release, dict(values), create_namespace=True, **options)
        except helm_python.HelmError as error:
            raise HelmFailed(str(error)) from error

    def remove(self, release: str) -> None:
        import helm_python  # noqa: PLC0415 - as above

        try:
            with self._connect() as config:
                config.uninstall(release, ignore_not_found=True)
        except helm_python.HelmError as error:
            raise HelmFailed(str(error)) from error

    def _connect(self) -> Any:
        from helm_python.config import Config  # noqa: PLC0415 - as above

        return Config(kubeconfig_path=self._kubeconfig, namespace=self._namespace)

    @staticmethod
    def _is_installed(config: Any, release: str) -> bool:
        import helm_python  # noqa: PLC0415 - as above

        try:
            config.status(release)
        except helm_python.HelmError as error:
            if "not found" in str(error):
                return False
            raise
        return True


class HelmProgram:
    """Helm by the program on PATH."""

    def __init__(self, program: str, kubeconfig: Path, namespace: str) -> None:
        self._command = [program, "--kubeconfig", str(kubeconfig), "--namespace", namespace]

    def apply(self, release: str, chart: Path, values: Mapping[str, Any], *, wait_s: int) -> None:
        options = ["--create-namespace", "--values", "-"]
        if wait_s:
            options += ["--wait", "--timeout", f"{wait_s}s"]
        self._call(["upgrade", "--install", release, str(chart), *options], json.dumps(values))

    def remove(self, release: str) -> None:
        self._call(["uninstall", release, "--ignore-not-found"])

    def _call(self, arguments: list[str], stdin: str = "") -> None:
        command = [*self._command, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)  # noqa: S603 - helm
        if done.returncode:
            raise HelmFailed(done.stderr.strip())


def _chart(charts: Path, name: str) -> Path:
    if not (charts / name / "Chart.yaml").is_file():
        raise Failure(f"no chart in {charts / name}", "name the folder of the charts by --charts", exit_code=2)
    return charts / name


def _run(action: Callable[[], None]) -> None:
    try:
        action()
    except HelmFailed as error:
        raise Failure(f"Helm: {error}", "mend what it names and run the command again") from error


Kubeconfig = Annotated[Path, typer.Option(envvar="KUBECONFIG", help="Whom to talk to.")]
Namespace = Annotated[str, typer.Option(help="Where the operator and the agents live.")]
_DEFAULT_KUBECONFIG: Final = Path.home() / ".kube" / "config"


def install_command(
    kubeconfig: Kubeconfig = _DEFAULT_KUBECONFIG,
    namespace: Namespace = NAMESPACE,
    values: Annotated[Path | None, typer.Option(help="YAML file with values for the chart.")] = None,
    charts: Annotated[Path, typer.Option(help="Folder with the charts.")] = CHARTS,
    wait: Annotated[int, typer.Option(help="Seconds to wait until all is ready; 0: do not wait.")] = 300,
) -> None:
    """Install or upgrade Maleo in a cluster."""
    install(kubeconfig, {}, namespace, read_values(values) if values else {}, charts=charts, wait_s=wait)


def uninstall_command(
    kubeconfig: Kubeconfig = _DEFAULT_KUBECONFIG,
    namespace: Namespace = NAMESPACE,
    crds: Annotated[bool, typer.Option("--crds", help="Also the custom resources, with every mission.")] = False,
) -> None:
    """Remove Maleo from a cluster; missions stay in the API unless --crds is given."""
    uninstall(kubeconfig, namespace, crds=crds)


def read_values(path: Path) -> dict[str, Any]:
    """Return the chart values in a YAML file. Raise Failure if it cannot be read or is not a mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise Failure(f"{path}: {error}", "give a YAML file with values of the chart", exit_code=2) from error
    if not isinstance(values, dict):
        raise Failure(f"{path}: no mapping", "give a YAML file with values of the chart", exit_code=2)
    return values
