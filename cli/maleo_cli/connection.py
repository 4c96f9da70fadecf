"""Options by which a command reaches a cluster, with the meaning that they have in kubectl."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from maleo_cli.errors import Failure
from maleo_kube.access import Access
from maleo_kube.errors import ApiError
from maleo_kube.plugins import load_access_now

NAMESPACE: Final = "maleo-system"

Kubeconfig = Annotated[Path | None, typer.Option(help="Kubeconfig file. Default: $KUBECONFIG, else ~/.kube/config.")]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig. Default: its current context.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace. Default: that of the context.")]
SystemNamespace = Annotated[str, typer.Option(help="Namespace in which Maleo is installed.")]


@dataclass(frozen=True, slots=True)
class Connection:
    """Connection options as given; a kubeconfig of None and an empty context stand for the defaults."""

    kubeconfig: Path | None = None
    context: str = ""
    system_namespace: str = NAMESPACE

    @property
    def paths(self) -> str:
        """Return the path of the kubeconfig, or the list of paths that KUBECONFIG holds."""
        return str(self.kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")

    def open(self) -> Access:
        """Return the access to the API server. Raise Failure if the kubeconfig or its credentials are unusable."""
        try:
            return load_access_now(self.paths, self.context)
        except (OSError, ValueError) as error:
            message = f"{self.paths}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise Failure(message, "pass a kubeconfig with --kubeconfig or KUBECONFIG", exit_code=2) from error
        except ApiError as error:
            raise Failure(str(error), "run the plugin by hand to see what it lacks, or log in again") from error

    def command(self, *words: str) -> str:
        """Return a shell command with the options that reach the same cluster."""
        kubeconfig = ["--kubeconfig", str(self.kubeconfig)] if self.kubeconfig is not None else []
        context = ["--context", self.context] if self.context else []
        differs = words[0] == "maleo" and self.system_namespace != NAMESPACE
        system = ["--system-namespace", self.system_namespace] if differs else []
        return shlex.join([*words, *kubeconfig, *context, *system])


def unreadable(access: Access, error: ApiError) -> Failure:
    """Return the Failure of a command that cannot read the cluster."""
    return Failure(
        f"cannot read the cluster at {access.url}: {error}",
        "check that the cluster is reachable and that Maleo is installed",
    )
