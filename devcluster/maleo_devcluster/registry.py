"""OCI registry with images for nodes and models for agents. Its content outlives the cluster."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

import yaml

from maleo_devcluster.process import Process, await_ready, start

_READY_S: Final = 15.0
_ENVIRONMENT: Final = {"OTEL_TRACES_EXPORTER": "none"}  # by default, version 3 sends traces to a local collector


def start_registry(address: str, storage: Path, folder: Path, program: str | Path = "docker-registry") -> Process:
    """Start a registry on `address` (ip:port), plain HTTP: only this machine and its cluster can reach it.

    program: CNCF Distribution 2 or 3, as a path or as a name on PATH.
    """
    storage.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "registry.yaml"
    settings = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": address},
    }
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [str(program), "serve", str(config)]
    process = start("registry", command, folder=folder / "log", environment=_ENVIRONMENT)
    await_ready(process, lambda: _is_healthy(f"http://{address}/v2/"), timeout_s=_READY_S)
    return process


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - address of this registry
            return bool(response.status == 200)  # noqa: PLR2004 - OK
    except (urllib.error.URLError, OSError):
        return False
