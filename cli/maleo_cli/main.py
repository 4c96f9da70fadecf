"""`maleo`, also `kubectl maleo`. Errors are one line with what, where and why, and one with the remedy."""

import sys
from typing import Final

import typer

from maleo_cli import cluster, explain, install, plan, replay
from maleo_cli.failure import Failure
from maleo_cli.model import commands as model

app: Final = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.add_typer(cluster.app, name="cluster")
app.add_typer(model.app, name="model")
app.command("plan")(plan.plan_command)
app.command("replay")(replay.replay_command)
app.command("explain")(explain.explain_command)
app.command("install")(install.install_command)
app.command("uninstall")(install.uninstall_command)


def main() -> None:
    """Exit code 0: fine; 1: not fine; 2: wrong use."""
    try:
        app(standalone_mode=True)
    except Failure as failure:
        for line in str(failure).splitlines():  # remedies are indented
            print(line if line.startswith(" ") else f"maleo: {line}", file=sys.stderr)
        sys.exit(failure.exit_code)


if __name__ == "__main__":
    main()
