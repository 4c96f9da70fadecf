"""Place AI missions on devices with NPUs by accuracy, latency and energy. Also runs as `kubectl maleo`."""

import gc
import importlib
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from maleo_cli.errors import Failure, lacks_packages, report

COMMANDS: Final = {
    "plan": (
        "maleo_cli.commands.plan:plan_command",
        "Plan every mission of the manifests and, with --live, of the cluster.",
    ),
    "replay": (
        "maleo_cli.commands.replay:replay_command",
        "Replan stored inputs and compare the result with the stored plans.",
    ),
    "explain": (
        "maleo_cli.commands.explain:explain_command",
        "Explain the placement of one mission in a running cluster.",
    ),
    "model": ("maleo_cli.commands.model:app", "Create a Model from ONNX files and push them to a registry."),
    "install": ("maleo_cli.commands.install:install_command", "Install or upgrade Maleo in a cluster."),
    "uninstall": (
        "maleo_cli.commands.install:uninstall_command",
        "Uninstall Maleo; custom resources are kept unless --crds is given.",
    ),
    "cluster": (
        "maleo_cli.commands.cluster:app",
        "Run a multi-node Kubernetes cluster on this machine, to try out Maleo.",
    ),
}
"""Command name -> (`module:attribute` of its function or application, its line in `maleo --help`)."""
_EXTRAS: Final = {"model": "model", "cluster": "devcluster"}
"""Command name -> extra of the distribution that contains its packages, if that is not `cli`."""
_GC_THRESHOLD: Final = 100_000
"""GC threshold in objects, instead of 700: a command runs for a second, a tenth of it spent on GC during imports."""


class _LazyGroup(TyperGroup):
    """Command group with lazy imports: `maleo --help` does not wait for ONNX Runtime and the planner."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - signature of the base class, here and below
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])


def load_command(name: str) -> Any:
    """Import and return the command `name`, a key of COMMANDS. Raise Failure if its packages are not installed."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise lacks_packages(f"command {name}", error, extra=_EXTRAS.get(name, "cli")) from error
    if isinstance(found, typer.Typer):
        command = typer.main.get_command(found)
    else:
        wrapper = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        wrapper.command(name)(found)
        command = typer.main.get_command(wrapper)
    command.name = name
    return command


app: Final = typer.Typer(
    cls=_LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


def _print_version(requested: bool) -> None:
    if requested:
        metadata = importlib.import_module("importlib.metadata")  # importing it takes half as long as `--help`
        print(f"maleo {metadata.version('maleo-control-plane')}")
        raise typer.Exit


@app.callback(help=__doc__)
def _maleo(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. Exit code 0: success; 1: failure; 2: wrong usage; 3: a prerequisite is missing."""
    gc.set_threshold(_GC_THRESHOLD)
    try:
        app(standalone_mode=True)
    except Failure as failure:
        sys.exit(report(failure))
    finally:
        gc.freeze()  # skip the garbage collection at exit, which takes 0.3 s


if __name__ == "__main__":
    main()
