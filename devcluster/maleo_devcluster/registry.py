"""OCI registry on the bridge, with images for nodes and models for agents. Its content outlives the cluster."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

import yaml

from maleo_devcluster.process import Process, await_ready, start

_READY_S: Final = 15.0


def start_registry(address: str, storage: Path, folder: Path) -> Process:
    """Start `docker-registry` on `address` (ip:port), plain HTTP: only this machine and its cluster can reach it."""
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
    process = start("registry", ["docker-registry", "serve", str(config)], folder=folder / "log")
    await_ready(process, lambda: _is_healthy(f"http://{address}/v2/"), timeout_s=_READY_S)
    return process


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - address of this registry
            return bool(response.status == 200)  # noqa: PLR2004 - OK
    except (urllib.error.URLError, OSError):
        return False
