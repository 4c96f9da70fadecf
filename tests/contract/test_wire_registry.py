"""Artefacts against a real registry, and against servers that misbehave."""

import hashlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from maleo_devcluster.registry import start_registry
from maleo_wire.registry import DigestMismatch, NotFound, TransferFailed, pull, push


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str, str], str]) -> Iterator[str]:
    program("docker-registry", "docker-registry")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    folder = tmp_path_factory.mktemp("registry")
    process = start_registry(address, folder / "storage", folder)
    yield address
    process.stop()


async def test_push_and_pull__give_the_same_bytes_by_digest(registry: str, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(bytes(range(256)) * 10_000)
    uri, digest = await push(f"oci://{registry}/models/test", source)
    assert uri == f"oci://{registry}/models/test@{digest}"
    assert await push(f"oci://{registry}/models/test", source) == (uri, digest)  # again is no error
    await pull(uri, digest, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == source.read_bytes()


async def test_pull__of_what_is_not_there_says_so(registry: str, tmp_path: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    with pytest.raises(NotFound, match="not found"):
        await pull(f"oci://{registry}/models/none@{digest}", digest, tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == []


async def test_pull__keeps_nothing_that_is_not_what_the_digest_names(tmp_path: Path) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=b"something else")

    app = web.Application()
    app.router.add_get("/model", answer)
    async with TestServer(app) as server:
        digest = f"sha256:{hashlib.sha256(b'the model').hexdigest()}"
        with pytest.raises(DigestMismatch, match="not sha256:"):
            await pull(str(server.make_url("/model")), digest, tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == []


async def test_pull__keeps_nothing_of_an_answer_that_is_cut_off(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_get("/model", answer)
    async with TestServer(app) as server:
        digest = f"sha256:{hashlib.sha256(b'half').hexdigest()}"  # what came would even fit
        with pytest.raises(TransferFailed, match="/model: Client"):
            await pull(str(server.make_url("/model")), digest, tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == []


async def test_pull__reads_no_files_of_the_node(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"mine")
    digest = f"sha256:{hashlib.sha256(b'mine').hexdigest()}"
    with pytest.raises(TransferFailed, match="maleo model push"):
        await pull(secret.as_uri(), digest, tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == [secret]


async def test_pull__from_nobody_is_an_error_of_the_transfer(tmp_path: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    with pytest.raises(TransferFailed, match="Connect"):
        await pull(f"oci://127.0.0.1:1/models/none@{digest}", digest, tmp_path / "pulled")


async def test_push__to_no_registry_address_says_how_one_looks(tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match=r"write oci://host:port/repository"):
        await push("docker.example/model", tmp_path / "model")
