"""Commands in the lab (`tools/kindlab/kindlab up`), run as an ordinary user in the group `docker`."""

import os
import subprocess
import sys
from typing import Any, Final

import yaml

from support.paths import ROOT

MINE: Final = """\
apiVersion: v1
kind: Config
current-context: production
clusters: [{name: production, cluster: {server: https://192.0.2.1:6443}}]
contexts: [{name: production, context: {cluster: production, user: me}}]
users: [{name: me, user: {token: not-for-the-demo}}]
"""
"""The user's own kubeconfig, exported in every command."""

_KINDLAB: Final = ROOT / "tools/kindlab/kindlab"
_FOLDER: Final = "maleo"  # the copy, below the user's home
_COMMAND_S: Final = 900.0


def run(script: str, *, folder: str = _FOLDER, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run a shell script in the copy of the repository, or in another folder of the user's home."""
    command = [str(_KINDLAB), "run", "bash", "-euo", "pipefail", "-c"]
    exported = f"export KUBECONFIG=$HOME/mine; cd {folder}; {script}"
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(
        [*command, exported], input=stdin, capture_output=True, timeout=_COMMAND_S, check=False, env=environment
    )


def ask(script: str, *, folder: str = _FOLDER, stdin: bytes = b"") -> str:
    """Return what the script printed; it must succeed."""
    done = run(script, folder=folder, stdin=stdin)
    output = done.stdout.decode()
    assert done.returncode == 0, f"{script}\n{output[-3000:]}\n{done.stderr.decode()[-3000:]}"
    return output


def prepare() -> None:
    """Make a clean copy of this repository in the user's home, and remove remains of earlier runs.

    Files that Git ignores are not copied. The fleet of the copy has one more node, without a label.
    """
    listed = _read("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    files = b"\0".join(name for name in listed.split(b"\0") if name and (ROOT / os.fsdecode(name)).exists())
    packed = _read("tar", "--create", "--null", "--files-from", "-", stdin=files)
    ask("docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes", folder=".")
    ask(
        "docker image ls --quiet --filter label=maleo.dev/demo | xargs --no-run-if-empty docker rmi --force", folder="."
    )
    ask(f"rm -rf {_FOLDER} && mkdir {_FOLDER} && tar --extract --directory {_FOLDER}", folder=".", stdin=packed)
    ask("cat > mine", folder=".", stdin=MINE.encode())
    config: dict[str, Any] = yaml.safe_load((ROOT / "kind-config.yaml").read_text(encoding="utf-8"))
    config["nodes"].append({"role": "worker"})
    ask("cat > kind-config.yaml", stdin=yaml.safe_dump(config).encode())


def _read(*command: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(command, cwd=ROOT, input=stdin, stdout=subprocess.PIPE, check=True).stdout
