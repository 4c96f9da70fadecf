"""Artefacts of this node: pulled once by digest, kept on disk within a size, served to the slots that need them."""

import asyncio
from collections.abc import Collection
from pathlib import Path

from maleo_wire.registry import pull


class ArtifactCache:
    """`folder` survives restarts. When it is full, the least recently used artefacts that nobody wants go first."""

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob("*.partial"):
            partial.unlink()
        self._folder = folder
        self._most_bytes = most_bytes
        self._pulling: dict[str, asyncio.Lock] = {}

    async def get(self, uri: str, digest: str, *, wanted: Collection[str]) -> Path:
        """The verified file; pulled when it is not here. `wanted` digests are never dropped. Raises TransferFailed."""
        path = self._path(digest)
        async with self._pulling.setdefault(digest, asyncio.Lock()):
            if not path.exists():
                await pull(uri, digest, path)
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
