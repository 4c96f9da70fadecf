"""Run a multi-node Kubernetes cluster on this machine, and inject faults into its nodes and links."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from maleo_api.quantities import BANDWIDTH, parse
from maleo_cli.errors import Failure
from maleo_devcluster import binaries, cluster, host, images, network, process, state, topology

app: Final = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)

Yes = Annotated[bool, typer.Option("--yes", help="Install packages and change sysctls without asking.")]
NodeName = Annotated[str, typer.Argument(help="Name of a node, for example drone-1.")]
UNSUITABLE: Final = 3
"""Exit code for an unsuitable machine, as opposed to a failure of Maleo or wrong usage."""
_UNSUITABLE: Final = (binaries.NotFound, host.Unsuitable)
_FAILURES: Final = (
    state.NoCluster,
    images.BuildFailed,
    network.CommandFailed,
    process.NotStarted,
    topology.InvalidTopology,
)


@contextlib.contextmanager
def report_failures() -> Iterator[None]:
    """Convert exceptions of the devcluster into Failure, which is printed without a stack trace."""
    try:
        yield
    except _UNSUITABLE as error:
        raise Failure(str(error), exit_code=UNSUITABLE) from error
    except _FAILURES as error:
        raise Failure(str(error)) from error


def consent_prompt(*, yes: bool) -> host.Ask:
    """Return the consent function: True for `--yes` or MALEO_YES=1, else a question on the terminal, else False."""

    def prompt(question: str) -> bool:
        if yes or os.environ.get("MALEO_YES") == "1":
            return True
        return sys.stdin.isatty() and typer.confirm(question)

    return prompt


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"    {text}", flush=True)


@app.command()
def up(
    config: Annotated[Path, typer.Option(help="kind configuration file.")] = Path("kind-config.yaml"),
    kubeconfig: Annotated[Path, typer.Option(help="File to write the kubeconfig to.")] = Path("build/kubeconfig"),
    *,
    yes: Yes = False,
) -> None:
    """Start the cluster; do nothing if it is running."""
    start = time.monotonic()
    with report_failures():
        running = cluster.up(topology.load(config), ask=consent_prompt(yes=yes), say=say)
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(running.kubeconfig, kubeconfig)
    print(f"{len(running.nodes)} nodes Ready after {time.monotonic() - start:.1f} s.")
    print(f"  export KUBECONFIG={kubeconfig.resolve()}")


@app.command()
def down() -> None:
    """Remove the cluster; binaries, images and models stay cached."""
    with report_failures():
        cluster.down()


@app.command()
def status() -> None:
    """List programs and nodes. Exit code 1 if one of them is not running."""
    with report_failures():
        running = cluster.Cluster.current().status()
    for name, runs in running.items():
        print(f"  {'✓' if runs else '✗'} {name}")
    if not all(running.values()):
        raise typer.Exit(1)


@app.command()
def shape(a: NodeName, b: NodeName, bandwidth: Annotated[str, typer.Argument(help="For example 4Mbit/s.")]) -> None:
    """Limit the bandwidth between two nodes in both directions, effective immediately."""
    try:
        parse(BANDWIDTH, bandwidth)
    except ValueError as error:
        raise Failure(str(error), exit_code=2) from error
    with report_failures():
        cluster.Cluster.current().shape(a, b, bandwidth)


@app.command()
def unshape() -> None:
    """Remove all bandwidth limits."""
    with report_failures():
        cluster.Cluster.current().unshape()


@app.command("kill-node")
def kill_node(node: NodeName) -> None:
    """Simulate a power loss: kill all processes of the node."""
    with report_failures():
        cluster.Cluster.current().kill_node(node)


@app.command("start-node")
def start_node(node: NodeName) -> None:
    """Start a killed node again."""
    with report_failures():
        cluster.Cluster.current().start_node(node)


@app.command("cut-node")
def cut_node(node: NodeName) -> None:
    """Disconnect the node from the network; its processes keep running."""
    with report_failures():
        cluster.Cluster.current().cut_node(node)


@app.command("heal-node")
def heal_node(node: NodeName) -> None:
    """Reconnect a disconnected node."""
    with report_failures():
        cluster.Cluster.current().heal_node(node)


@app.command()
def kubeconfig() -> None:
    """Print the path of the kubeconfig."""
    with report_failures():
        print(cluster.Cluster.current().kubeconfig)


@app.command()
def build(
    prepare: Annotated[
        Path | None, typer.Option(help="Only create the build contexts in this folder, and print their paths.")
    ] = None,
) -> None:
    """Build the images of operator, agent and slot from this checkout and push them to the cluster's registry."""
    with report_failures():
        if prepare is not None:
            folders = images.Builder(source=Path.cwd(), cache=prepare, registry="", say=say)
            for component in images.COMPONENTS:
                print(folders.prepare(component)[0])
            return
        builder = cluster.Cluster.current().builder(Path.cwd(), say)
        for component in images.COMPONENTS:
            print(builder.build(component))


@app.command("binaries")
def get_binaries(
    *,
    control_plane: Annotated[bool, typer.Option(help="Only etcd, kube-apiserver and kubectl.")] = False,
    processes: Annotated[
        bool, typer.Option(help="Only the control plane, kubectl and the registry: for nodes that are processes.")
    ] = False,
) -> None:
    """Find, download or build the Kubernetes binaries, and print their paths."""
    if control_plane and processes:
        raise Failure("--control-plane and --processes cannot be combined: choose one", exit_code=2)
    names: tuple[str, ...] = binaries.ROOTLESS if processes else binaries.ALL
    if control_plane:
        names = (*binaries.CONTROL_PLANE, binaries.KUBECTL)
    with report_failures():
        for path in binaries.ensure(names, binaries.Sources.of(), say).values():
            print(path)
