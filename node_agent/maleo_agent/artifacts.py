"""Artefacts of this node: pulled once by digest, kept on disk within a size, served to the slots that need them."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Final

from maleo_wire.messages import Artifact
from maleo_wire.registry import pull
from maleo_wire.sources import Sources

_SLACK: Final = (1.1, 1 << 20)  # sizes in manifests are rounded by those who write them: so much more may come


class ArtifactCache:
    """`folder` survives restarts. When it is full, the least recently used artefacts that nobody wants go first.

    most_bytes: of all of them; none of them may be larger, whatever size it is declared with.
    """

    def __init__(self, folder: Path, *, most_bytes: int, sources: Sources) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*.partial"):
            partial.unlink()
        self._folder = folder
        self._most_bytes = most_bytes
        self._sources = sources
        self._pulling: dict[str, asyncio.Lock] = {}

    async def get(self, artifact: Artifact, *, wanted: Collection[str]) -> Path:
        """The verified file; pulled when it is not here. `wanted` digests are never dropped. Raises TransferFailed."""
        digest = artifact.digest
        path = self._path(digest)
        async with self._pulling.setdefault(digest, asyncio.Lock()):
            if not path.exists():
                declared = int(artifact.size * _SLACK[0]) + _SLACK[1]
                most = min(declared, self._most_bytes)
                await pull(artifact.uri, digest, path, most_bytes=most, sources=self._sources)
                self._shrink({*wanted, digest})
        path.touch()
        return path

    def _shrink(self, wanted: Collection[str]) -> None:
        kept = {self._path(digest) for digest in wanted}
        files = sorted(self._folder.iterdir(), key=lambda p: p.stat().st_mtime)
        size = sum(p.stat().st_size for p in files)
        for file in files:
            if size <= self._most_bytes:
                return
            if file not in kept:
                size -= file.stat().st_size
                file.unlink()

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
