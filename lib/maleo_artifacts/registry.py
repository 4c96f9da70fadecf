"""Content-addressed artifacts: pull from an OCI registry or HTTP server, push to an OCI registry.

An artifact is one blob. `oci://host:port/repository@sha256:...` names the blob itself; a small manifest next to it
protects it from the registry's garbage collection. Private and loopback addresses, and hosts configured as insecure,
are accessed over plain HTTP, all others over HTTPS.
"""

import hashlib
import ipaddress
import json
import os
import re
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from maleo_artifacts.address_policy import AddressPolicy
from maleo_artifacts.download import CHUNK, TIMEOUT, DownloadFailed, download
from maleo_wire.address import redact_uri

_OCI: Final = re.compile(
    r"^oci://(?P<host>[^/@]+)/(?P<repository>[a-z0-9][a-z0-9._/-]*)(@(?P<digest>sha256:[0-9a-f]{64}))?$"
)
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_TYPE: Final = "application/vnd.maleo.artifact.v1"
_EMPTY: Final = b"{}"
_NOT_FOUND: Final = 404


class TransferFailed(Exception):
    """An artifact could not be transferred; the message names the address and the cause."""


class NotFound(TransferFailed):
    """The artifact does not exist."""


class DigestMismatch(TransferFailed):
    """The content does not have the expected digest; nothing was kept."""


@dataclass(frozen=True, slots=True)
class Location:
    """Parts of an `oci://` address; `digest` is empty if it names a repository only."""

    host: str
    repository: str
    digest: str

    @classmethod
    def parse(cls, uri: str) -> "Location":
        """Parse an address with or without a digest. Raise TransferFailed if it is malformed."""
        match = _OCI.match(uri)
        if match is None:
            raise TransferFailed(
                f"{redact_uri(uri)!r}: invalid registry address: use oci://host:port/repository[@sha256:...]"
            )
        return cls(match["host"], match["repository"], match["digest"] or "")

    def url(self, plain_http: Collection[str]) -> str:
        """Return the base URL of the repository. `plain_http`: hosts that use HTTP without TLS."""
        scheme = "http" if self.host.lower() in plain_http or _is_local(self.host) else "https"
        return f"{scheme}://{self.host}/v2/{self.repository}"


async def pull(uri: str, digest: str, destination: Path, *, max_bytes: int, policy: AddressPolicy) -> None:
    """Download an artifact of at most `max_bytes` to `destination`, which appears only when complete and verified.

    policy: addresses that are allowed. Raises TransferFailed, whose message is safe to show to the Model's author.
    """
    redacted = redact_uri(uri)
    partial = destination.with_name(f"{destination.name}.partial")
    actual = hashlib.sha256()
    try:
        url = _url_of(uri, digest, policy)
        async with aclosing(download(url, max_bytes=max_bytes, policy=policy)) as chunks:
            with partial.open("wb") as output:
                async for chunk in chunks:
                    actual.update(chunk)
                    output.write(chunk)
        if f"sha256:{actual.hexdigest()}" != digest:
            # The actual digest is withheld: the author of the address could use it to have the content delivered.
            raise DigestMismatch(f"{redacted}: ArtifactInvalid: the content does not match the digest {digest}")
        partial.rename(destination)
    except DownloadFailed as error:
        if error.status == _NOT_FOUND:
            raise NotFound(f"{redacted}: not found") from error
        raise TransferFailed(f"{redacted}: {error}") from error
    except OSError as error:
        raise TransferFailed(f"{redacted}: {type(error).__name__}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


async def push(repository: str, path: Path) -> tuple[str, str]:
    """Upload the file to `oci://host:port/repository`. Return its address with digest, and the digest.

    Hosts in MALEO_INSECURE_REGISTRIES (comma-separated) are accessed without TLS.
    """
    location = Location.parse(repository)
    base = location.url(insecure_registries())
    digest = digest_of(path)
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            await _upload(session, base, digest, path.stat().st_size, _file(path))
            config = f"sha256:{hashlib.sha256(_EMPTY).hexdigest()}"
            await _upload(session, base, config, len(_EMPTY), _bytes(_EMPTY))
            manifest = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "artifactType": _TYPE,
                "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": len(_EMPTY)},
                "layers": [{"mediaType": _TYPE, "digest": digest, "size": path.stat().st_size}],
            }
            url = f"{base}/manifests/{digest.replace(':', '-')}"
            body = json.dumps(manifest).encode()
            async with session.put(url, data=body, headers={"Content-Type": _MANIFEST}) as response:
                await _check(response, repository)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise TransferFailed(f"{repository}: {type(error).__name__}: {error}") from error
    return f"oci://{location.host}/{location.repository}@{digest}", digest


def digest_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, as `sha256:<hex>`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


async def _upload(
    session: aiohttp.ClientSession, base: str, digest: str, size: int, content: AsyncIterator[bytes]
) -> None:
    async with session.head(f"{base}/blobs/{digest}") as existing:
        if existing.status == 200:  # noqa: PLR2004 - OK: the blob exists
            return
    async with session.post(f"{base}/blobs/uploads/") as response:
        await _check(response, base)
        target = response.url.join(URL(response.headers["Location"]))
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    async with session.put(target.update_query(digest=digest), data=content, headers=headers) as response:
        await _check(response, base)


def insecure_registries() -> frozenset[str]:
    """Return the hosts (`host:port`) that MALEO_INSECURE_REGISTRIES lists as having no TLS."""
    entries = os.environ.get("MALEO_INSECURE_REGISTRIES", "").lower().split(",")
    return frozenset(filter(None, (host.strip() for host in entries)))


def policy_entry(host: str) -> str:
    """Return the `Sources` entry for the registry that `push` reaches at `host` (`host:port`)."""
    return f"http://{host}" if host.lower() in insecure_registries() else host


def _url_of(uri: str, digest: str, policy: AddressPolicy) -> str:
    if uri.startswith("file://"):
        # A manifest's author must not read files of a node, nor learn their digests.
        raise TransferFailed(
            f"{redact_uri(uri)}: nodes cannot read local files: upload it with `maleo model push`, and use the address "
            "that it prints"
        )
    if uri.startswith(("http://", "https://")):
        return uri
    return f"{Location.parse(uri).url(policy.plain_http)}/blobs/{digest}"


async def _check(response: aiohttp.ClientResponse, address: str) -> None:
    if response.status == _NOT_FOUND:
        raise NotFound(f"{address}: not found")
    if response.status >= 400:  # noqa: PLR2004 - HTTP errors begin there
        raise TransferFailed(f"{address}: {response.status} {(await response.text())[:300]}")


async def _file(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


async def _bytes(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _is_local(host: str) -> bool:
    """Return True for localhost and private addresses. host: with or without a port, IPv6 in brackets."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_private
    except ValueError:
        return False
