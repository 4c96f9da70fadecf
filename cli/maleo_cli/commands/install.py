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

from maleo_api.kinds import KINDS
from maleo_api.meta import GROUP
from maleo_cli.charts import CHARTS, find_chart, read_values
from maleo_cli.connection import NAMESPACE, Connection, Context, Kubeconfig
from maleo_cli.errors import Failure
from maleo_kube.access import Access
from maleo_kube.client import Client
from maleo_kube.errors import ApiError, NotFound
from maleo_kube.resources import CRDS

_CRDS: Final = "maleo-crds"
_RELEASES: Final = (_CRDS, "maleo")  # in order of installation: the second contains resources of the first's kinds
_CRDS_WAIT_S: Final = 60
_CRD_POLL_S: Final = 10.0
_CRD_POLLS: Final = 12


class Helm(Protocol):
    """Interface of the Helm library and program. Methods raise HelmFailed with Helm's error message."""

    def apply(self, release: str, chart: Path, values: Mapping[str, Any], *, wait_s: int) -> None:
        """Install or upgrade a release. wait_s: seconds to wait for readiness; 0 does not wait."""

    def remove(self, release: str) -> None:
        """Remove a release; do nothing if it does not exist."""


class HelmFailed(Exception):
    """Helm failed; the message is Helm's own error."""


def install(
    kubeconfig: Path | None,
    images: Mapping[str, str],
    namespace: str = NAMESPACE,
    values: Mapping[str, Any] | None = None,
    *,
    context: str = "",
    charts: Path = CHARTS,
    wait_s: int = 0,
) -> None:
    """Install or upgrade the CRDs and Maleo. Raise Failure with Helm's error message.

    kubeconfig, context: None and empty for the defaults of kubectl.
    images: operator, agent, slot -> image reference. values: overrides of the chart's values.
    wait_s: seconds to wait until everything is ready; 0 does not wait.
    """
    merged = {**(values or {})}
    if images:
        merged["images"] = {**merged.get("images", {}), **images}
    helm = find_helm(kubeconfig, namespace, context)
    _run(partial(helm.apply, _CRDS, find_chart(charts, _CRDS), {}, wait_s=_CRDS_WAIT_S))
    _run(partial(helm.apply, "maleo", find_chart(charts, "maleo"), merged, wait_s=wait_s))


def uninstall(kubeconfig: Path | None, namespace: str = NAMESPACE, *, context: str = "", crds: bool = False) -> None:
    """Remove Maleo. crds: also delete the CRDs, and with them every mission, and wait until they are gone."""
    helm = find_helm(kubeconfig, namespace, context)
    for release in reversed(_RELEASES if crds else _RELEASES[1:]):
        _run(partial(helm.remove, release))
    if crds:
        try:
            asyncio.run(_delete_crds(Connection(kubeconfig, context).open()))
        except ApiError as error:
            raise Failure(f"cannot delete the CRDs: {error}", "run the command again") from error


async def _delete_crds(access: Access) -> None:
    """Delete the CRDs, which Helm keeps because of the chart's annotation, and wait until they are gone."""
    names = {f"{info.plural}.{GROUP}" for info in KINDS.values()}
    async with Client(access) as client:
        for name in sorted(names):
            await client.delete(CRDS, name)
        for attempt in range(_CRD_POLLS):
            listing = await client.list(CRDS)
            remaining = names & {item["metadata"]["name"] for item in listing.items}
            events = client.watch(CRDS, resource_version=listing.resource_version, idle_timeout_s=_CRD_POLL_S)
            while remaining and (event := await anext(events, None)) is not None:
                if event.type == "DELETED":
                    remaining.discard(event.object["metadata"]["name"])
            if not remaining:
                return
            await _retrigger_finalizer(client, remaining, attempt)
    raise Failure(f"CRDs are still terminating: {', '.join(sorted(remaining))}", "wait, then run the command again")


async def _retrigger_finalizer(client: Client, names: Iterable[str], attempt: int) -> None:
    """Trigger the API server's finalizer of CRDs in deletion by changing an annotation of each.

    With a stale cache the finalizer gives up until its next resync, up to five minutes later.
    """
    for name in names:
        with contextlib.suppress(NotFound):
            await client.merge(CRDS, name, {"metadata": {"annotations": {f"{GROUP}/removal": f"look-{attempt}"}}})


def find_helm(kubeconfig: Path | None, namespace: str, context: str = "") -> Helm:
    """Return the Helm library if installed, else the program. Raise Failure if there is neither."""
    if importlib.util.find_spec("helm_python"):
        return HelmLibrary(kubeconfig, namespace, context)
    program = shutil.which("helm")
    if program is None:
        raise Failure("Helm not found", "install the `helm` program, or the Python package helm-python-sdk")
    return HelmProgram(program, kubeconfig, namespace, context)


class HelmLibrary:
    """Helm by the Python library, in this process."""

    def __init__(self, kubeconfig: Path | None, namespace: str, context: str) -> None:
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self._context = context

    def apply(self, release: str, chart: Path, values: Mapping[str, Any], *, wait_s: int) -> None:
        """Install or upgrade a release, as `Helm.apply` does."""
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
        """Remove a release, as `Helm.remove` does."""
        import helm_python  # noqa: PLC0415 - as above

        try:
            with self._connect() as config:
                config.uninstall(release, ignore_not_found=True)
        except helm_python.HelmError as error:
            raise HelmFailed(str(error)) from error

    def _connect(self) -> Any:
        from helm_python.config import Config  # noqa: PLC0415 - as above

        return Config(kubeconfig_path=self._kubeconfig, kube_context=self._context or None, namespace=self._namespace)

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

    def __init__(self, program: str, kubeconfig: Path | None, namespace: str, context: str) -> None:
        kubeconfig_options = ["--kubeconfig", str(kubeconfig)] if kubeconfig is not None else []
        context_options = ["--kube-context", context] if context else []
        self._command = [program, *kubeconfig_options, *context_options, "--namespace", namespace]

    def apply(self, release: str, chart: Path, values: Mapping[str, Any], *, wait_s: int) -> None:
        """Install or upgrade a release, as `Helm.apply` does."""
        options = ["--create-namespace", "--values", "-"]
        if wait_s:
            options += ["--wait", "--timeout", f"{wait_s}s"]
        self._call(["upgrade", "--install", release, str(chart), *options], json.dumps(values))

    def remove(self, release: str) -> None:
        """Remove a release, as `Helm.remove` does."""
        self._call(["uninstall", release, "--ignore-not-found"])

    def _call(self, arguments: list[str], stdin: str = "") -> None:
        command = [*self._command, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)  # noqa: S603 - helm
        if done.returncode:
            raise HelmFailed(done.stderr.strip())


def _run(action: Callable[[], None]) -> None:
    try:
        action()
    except HelmFailed as error:
        raise Failure(f"Helm: {error}", "fix the cause and run the command again") from error


_Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the operator and the agents.")]


def install_command(
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    namespace: _Namespace = NAMESPACE,
    values: Annotated[Path | None, typer.Option(help="YAML file with Helm values.")] = None,
    charts: Annotated[Path, typer.Option(help="Folder that contains the charts.")] = CHARTS,
    wait: Annotated[int, typer.Option(help="Seconds to wait until everything is ready; 0 does not wait.")] = 300,
) -> None:
    """Install or upgrade Maleo in a cluster."""
    chosen = read_values(values) if values else {}
    install(kubeconfig, {}, namespace, chosen, context=context, charts=charts, wait_s=wait)


def uninstall_command(
    kubeconfig: Kubeconfig = None,
    context: Context = "",
    namespace: _Namespace = NAMESPACE,
    crds: Annotated[bool, typer.Option("--crds", help="Also delete the CRDs, and with them all missions.")] = False,
) -> None:
    """Uninstall Maleo; custom resources are kept unless --crds is given."""
    uninstall(kubeconfig, namespace, context=context, crds=crds)
