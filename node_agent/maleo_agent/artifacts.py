"""Artifact cache of a node: pulled once by digest, stored on disk within a size limit, served to slots."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from maleo_artifacts.address_policy import AddressPolicy
from maleo_artifacts.registry import TransferFailed, pull
from maleo_wire.address import redact_uri
from maleo_wire.messages import Artifact

log: Final = logging.getLogger("maleo.agent")
_SLACK: Final = (1.1, 1 << 20)  # factor and bytes by which an artifact may exceed the rounded size in its manifest


class CacheFull(TransferFailed):
    """The artifacts that the node must keep leave no space for this one; the message has the sizes and the remedy."""


class ArtifactCache:
    """Disk cache with LRU eviction. `folder` survives restarts; artifacts that are in use are never evicted.

    max_bytes: limit of everything on disk, artifacts in use and pulls in progress included. policy: allowed servers.
    """

    def __init__(self, folder: Path, *, max_bytes: int, policy: AddressPolicy) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*.partial"):
            partial.unlink()
        self._folder = folder
        self._max_bytes = max_bytes
        self._policy = policy
        self._locks: dict[str, asyncio.Lock] = {}
        self._reserved: dict[str, int] = {}  # digest -> bytes reserved for its pull
        self._failures: dict[str, str] = {}

    async def get(self, artifact: Artifact, *, retained: Collection[str]) -> Path:
        """Return the verified file, pulling it if it is not cached.

        Artifacts with a `retained` digest are not evicted. Raise TransferFailed, or CacheFull if they leave too little
        space.
        """
        digest = artifact.digest
        path = self._path(digest)
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if not path.exists():
                await self._pull(artifact, path, retained)
        path.touch()
        return path

    async def _pull(self, artifact: Artifact, path: Path, retained: Collection[str]) -> None:
        start, name = time.monotonic(), f"artifact {artifact.digest[:19]} from {redact_uri(artifact.uri)}"
        try:
            with self._reserve(artifact, retained) as max_bytes:
                await pull(artifact.uri, artifact.digest, path, max_bytes=max_bytes, policy=self._policy)
        except TransferFailed as error:
            if self._failures.get(artifact.digest) != str(error):  # logged once, because slots retry
                log.warning("cannot download %s: %s", name, error)
            self._failures[artifact.digest] = str(error)
            raise
        self._failures.pop(artifact.digest, None)
        log.info("downloaded %s: %d bytes in %.1f s", name, path.stat().st_size, time.monotonic() - start)

    @contextmanager
    def _reserve(self, artifact: Artifact, retained: Collection[str]) -> Iterator[int]:
        """Evict until the artifact fits, reserve its space, and yield the bytes that its pull may take."""
        retained_paths = {self._path(digest) for digest in retained}
        files = {path: path.stat() for path in self._folder.iterdir() if path.suffix != ".partial"}
        retained_bytes = sum(stat.st_size for path, stat in files.items() if path in retained_paths)
        available = self._max_bytes - retained_bytes - sum(self._reserved.values())
        if artifact.size > available:
            raise CacheFull(self._describe_full(artifact, retained_bytes))
        max_bytes = min(int(artifact.size * _SLACK[0]) + _SLACK[1], available)
        evictable = sorted(
            (path for path in files if path not in retained_paths), key=lambda path: files[path].st_mtime
        )
        used = retained_bytes + sum(files[path].st_size for path in evictable)
        for path in evictable:
            if used + sum(self._reserved.values()) + max_bytes <= self._max_bytes:
                break
            used -= files[path].st_size
            path.unlink()
        self._reserved[artifact.digest] = max_bytes
        try:
            yield max_bytes
        finally:
            del self._reserved[artifact.digest]

    def _describe_full(self, artifact: Artifact, retained_bytes: int) -> str:
        name, pulling_bytes = redact_uri(artifact.uri), sum(self._reserved.values())
        remedy = "increase the chart's agent.cacheBytes, or run fewer models on this node"
        return (
            f"{name}: CacheFull: the artifact has {artifact.size} bytes, and the node's cache of {self._max_bytes} "
            f"bytes holds {retained_bytes} that missions on this node use and {pulling_bytes} that are being "
            f"downloaded: {remedy}"
        )

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
