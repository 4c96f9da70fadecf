"""Artifacts in the slot's own folder, downloaded from the node's agent and verified again here."""

import asyncio
import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

import aiohttp

from maleo_wire.address import redact_uri
from maleo_wire.messages import Artifact

_TIMEOUT: Final = aiohttp.ClientTimeout(total=600, sock_connect=5, sock_read=60)


class FetchFailed(Exception):
    """The artifact could not be downloaded, or does not match its digest."""


class ArtifactStore:
    """Local artifact store. `folder` is the pod's emptyDir; `agent` is `http://ip:port`."""

    def __init__(self, folder: Path, *, agent: str, identity: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.rglob("*.partial"):
            partial.unlink()  # left by a process that ended while writing
        self.folder = folder
        self._agent = agent
        self._headers = {"Authorization": f"Bearer {identity}"}
        self._locks: dict[str, asyncio.Lock] = {}

    async def fetch(self, artifact: Artifact) -> Path:
        """Return the file in a folder of its own, downloading it once. Raise FetchFailed with the cause."""
        path = self.folder / artifact.digest.removeprefix("sha256:") / "model.onnx"
        async with self._locks.setdefault(artifact.digest, asyncio.Lock()):
            if not path.exists():
                await self._download(artifact, path)
        return path

    def retain(self, digests: Collection[str]) -> None:
        """Remove the artifacts of all other digests, and the parts cut from them."""
        retained = {digest.removeprefix("sha256:") for digest in digests}
        for folder in self.folder.iterdir():
            if folder.name not in retained:
                shutil.rmtree(folder)

    async def _download(self, artifact: Artifact, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        partial, digest, name = path.with_suffix(".partial"), hashlib.sha256(), redact_uri(artifact.uri)
        url = f"{self._agent}/artifacts/{artifact.digest}"
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers) as session,
                session.get(url) as response,
            ):
                if response.status != 200:  # noqa: PLR2004 - OK
                    raise FetchFailed(f"{name}: {(await response.text())[:300]}")
                with partial.open("wb") as output:
                    async for chunk in response.content.iter_chunked(1 << 20):
                        digest.update(chunk)
                        output.write(chunk)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            partial.unlink(missing_ok=True)
            raise FetchFailed(
                f"{name}: download from the agent at {self._agent} failed: {type(error).__name__}"
            ) from error
        if f"sha256:{digest.hexdigest()}" != artifact.digest:
            partial.unlink()
            raise FetchFailed(f"{name}: ArtifactInvalid: the content does not match the digest {artifact.digest}")
        partial.rename(path)
