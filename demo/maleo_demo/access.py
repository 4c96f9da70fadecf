"""Access from this machine to a mission's Service on a cluster whose pod network is not reachable."""

import contextlib
import re
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from maleo_demo.programs import Unavailable

_READY_S: Final = 20.0
_SERVING: Final = re.compile(r"^Starting to serve on (\S+)$")


@contextlib.contextmanager
def through_api_server(kubectl: str, kubeconfig: Path, *, namespace: str, service: str) -> Iterator[str]:
    """Yield `host:port/path` of port `http` of the Service, by `kubectl proxy` and the API server's service proxy.

    The API server resolves the Service's endpoint for each request, so the address survives a move of the mission; a
    port-forward is bound to one pod. The local port gives access to this Service only.
    """
    path = f"api/v1/namespaces/{namespace}/services/{service}:http/proxy"
    command = [kubectl, "--kubeconfig", str(kubeconfig), "proxy", "--port=0", f"--accept-paths=^/{path}/"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as proxy:  # noqa: S603
        try:
            yield f"{_await_address(proxy)}/{path}"
        finally:
            proxy.terminate()


def _await_address(proxy: "subprocess.Popen[str]") -> str:
    """Return `host:port` from the line that `kubectl proxy` prints once it listens. Raise Unavailable without one."""
    assert proxy.stdout is not None, "stdout is a pipe"
    readable, _, _ = select.select([proxy.stdout], [], [], _READY_S)
    line = proxy.stdout.readline().strip() if readable else f"nothing within {_READY_S:.0f} s"
    found = _SERVING.match(line)
    if found is None:
        raise Unavailable(f"`kubectl proxy` did not start; its output: {line}")
    return found[1]
