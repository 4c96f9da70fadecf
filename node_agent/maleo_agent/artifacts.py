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
    """The artifacts that the node must keep leave no room for this one; the message has the sizes and the remedy."""


class ArtifactCache:
    """Disk cache with LRU eviction. `folder` survives restarts; artifacts that are in use are never evicted.

    most_bytes: limit of everything on disk, artifacts in use and pulls in progress included. sources: allowed servers.
    """

    def __init__(self, folder: Path, *, most_bytes: int, sources: AddressPolicy) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*.partial"):
            partial.unlink()
        self._folder = folder
        self._most_bytes = most_bytes
        self._sources = sources
        self._pulling: dict[str, asyncio.Lock] = {}
        self._reserved: dict[str, int] = {}  # digest -> bytes reserved for its pull
        self._failures: dict[str, str] = {}

    async def get(self, artifact: Artifact, *, wanted: Collection[str]) -> Path:
        """Return the verified file, pulling it if it is not cached.

        Artifacts with a `wanted` digest are not evicted. Raise TransferFailed, or CacheFull if those leave too little
        room.
        """
        digest = artifact.digest
        path = self._path(digest)
        async with self._pulling.setdefault(digest, asyncio.Lock()):
            if not path.exists():
                await self._pull(artifact, path, wanted)
        path.touch()
        return path

    async def _pull(self, artifact: Artifact, path: Path, wanted: Collection[str]) -> None:
        began, name = time.monotonic(), f"artifact {artifact.digest[:19]} from {redact_uri(artifact.uri)}"
        try:
            with self._reserving(artifact, wanted) as most:
                await pull(artifact.uri, artifact.digest, path, max_bytes=most, policy=self._sources)
        except TransferFailed as error:
            if self._failures.get(artifact.digest) != str(error):  # logged once, because slots retry
                log.warning("cannot download %s: %s", name, error)
            self._failures[artifact.digest] = str(error)
            raise
        self._failures.pop(artifact.digest, None)
        log.info("downloaded %s: %d bytes in %.1f s", name, path.stat().st_size, time.monotonic() - began)

    @contextmanager
    def _reserving(self, artifact: Artifact, wanted: Collection[str]) -> Iterator[int]:
        """Evict until the artifact fits, reserve its space, and yield the bytes that its pull may take."""
        kept = {self._path(digest) for digest in wanted}
        files = {path: path.stat() for path in self._folder.iterdir() if path.suffix != ".partial"}
        must_stay = sum(stat.st_size for path, stat in files.items() if path in kept)
        room = self._most_bytes - must_stay - sum(self._reserved.values())
        if artifact.size > room:
            raise CacheFull(self._tell_full(artifact, must_stay))
        most = min(int(artifact.size * _SLACK[0]) + _SLACK[1], room)
        spare = sorted((path for path in files if path not in kept), key=lambda path: files[path].st_mtime)
        taken = must_stay + sum(files[path].st_size for path in spare)
        for path in spare:
            if taken + sum(self._reserved.values()) + most <= self._most_bytes:
                break
            taken -= files[path].st_size
            path.unlink()
        self._reserved[artifact.digest] = most
        try:
            yield most
        finally:
            del self._reserved[artifact.digest]

    def _tell_full(self, artifact: Artifact, must_stay: int) -> str:
        name, coming = redact_uri(artifact.uri), sum(self._reserved.values())
        remedy = "increase the chart's agent.cacheBytes, or run fewer models on this node"
        return (
            f"{name}: CacheFull: the artifact has {artifact.size} bytes, and the node's cache of {self._most_bytes} "
            f"bytes holds {must_stay} that missions on this node use and {coming} that are being downloaded: {remedy}"
        )

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
