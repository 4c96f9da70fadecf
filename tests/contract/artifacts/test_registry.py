"""Artefacts against a real registry, and against servers that misbehave."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from maleo_artifacts import registry as transfers
from maleo_artifacts.address_policy import AddressPolicy
from maleo_artifacts.registry import DigestMismatch, NotFound, TransferFailed, push
from maleo_devcluster.registry import start_registry

_MOST = 1 << 30
_MODEL = b"the model"
_DIGEST = f"sha256:{hashlib.sha256(_MODEL).hexdigest()}"


async def pull(
    uri: str, digest: str, destination: Path, *, max_bytes: int = _MOST, listed: Sequence[str] | None = None
) -> None:
    """With the server of `uri` listed, as all of them are on this machine; `listed`: these instead."""
    names = [uri.split("/")[2]] if listed is None and not uri.startswith("file:") else listed or []
    await transfers.pull(uri, digest, destination, max_bytes=max_bytes, policy=AddressPolicy.parse(names))


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
        with pytest.raises(DigestMismatch, match="does not match the digest") as failure:
            await pull(str(server.make_url("/model")), digest, tmp_path / "pulled")
    assert hashlib.sha256(b"something else").hexdigest() not in str(failure.value), "or it could be asked for by it"
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
    with pytest.raises(TransferFailed, match=r"use oci://host:port/repository"):
        await push("docker.example/model", tmp_path / "model")


def _server(answers: dict[str, Callable[[], web.Response]]) -> TestServer:
    """Answers by path."""

    async def answer(request: web.Request) -> web.Response:
        return answers[request.path]()

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    return TestServer(app)


def _to(location: str) -> Callable[[], web.Response]:
    return lambda: web.Response(status=307, headers={"Location": location})


async def test_pull__tells_nothing_of_what_a_server_says(tmp_path: Path) -> None:
    """It may be one that only nodes reach, and the message ends in a status that the Model's author reads."""
    async with _server({"/secret": lambda: web.Response(status=403, text="token=hunter2", reason="hunter2")}) as server:
        with pytest.raises(TransferFailed) as failure:
            await pull(str(server.make_url("/secret")), _DIGEST, tmp_path / "pulled")
        assert str(failure.value) == f"{server.make_url('/secret')}: the server returned HTTP status 403"


async def test_pull__tells_nothing_of_a_server_that_does_not_speak_http(tmp_path: Path) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-hunter2\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    with pytest.raises(TransferFailed, match="the response is missing, incomplete or malformed") as failure:
        await pull(uri, _DIGEST, tmp_path / "pulled")
    assert "hunter2" not in str(failure.value)
    server.close()


async def test_pull__follows_redirects_within_the_server_that_was_named(tmp_path: Path) -> None:
    async with _server({"/model": _to("/blob"), "/blob": lambda: web.Response(body=_MODEL)}) as server:
        await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == _MODEL


async def test_pull__is_not_led_on_to_another_plain_server(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer() -> web.Response:
        asked.append("near")
        return web.Response(body=_MODEL)

    async with _server({"/model": answer}) as near:
        to = str(near.make_url("/model"))
        async with _server({"/model": _to(to)}) as server:
            with pytest.raises(TransferFailed, match="redirects to another server must use https"):
                await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled")
    assert asked == []


async def test_pull__follows_to_another_server_by_https(tmp_path: Path) -> None:
    """As registries redirect to where they keep their blobs; this one does not speak it, which is found by trying."""
    async with _server({}) as blobs, _server({"/model": _to(f"https://localhost:{blobs.port}/blob")}) as server:
        uri, listed = str(server.make_url("/model")), [f"{server.host}:{server.port}", f"localhost:{blobs.port}"]
        with pytest.raises(TransferFailed, match=f"Connect.*localhost:{blobs.port}"):
            await pull(uri, _DIGEST, tmp_path / "pulled", listed=listed)


async def test_pull__gives_up_on_redirects_in_a_circle(tmp_path: Path) -> None:
    async with _server({"/model": _to("/model")}) as server:
        with pytest.raises(TransferFailed, match="redirects more than 5 times"):
            await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled")


@pytest.fixture
async def near() -> AsyncIterator[tuple[int, list[str]]]:
    """Port of a server on this machine that strangers do not reach, and who came: connections, not only requests."""
    came: list[str] = []

    def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(note, None, 0, family=socket.AF_INET)
    yield server.sockets[0].getsockname()[1], came
    server.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Name -> addresses, one for each time that it is looked up, the last of them for ever; `a,b` are two at once."""
    known: dict[str, list[str]] = {}
    resolve = socket.getaddrinfo

    def lookup(name: str, *arguments: Any, **options: Any) -> Any:
        answers = known.get(name, [name])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [info for address in answer.split(",") for info in resolve(address, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return known


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::]", "[::1]",
        "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "10.96.0.1",
        "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "[fd00:ec2::254]", "[fe80::1]",
        "[::ffff:169.254.169.254]", "224.0.0.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_pull__does_not_connect_to_what_only_nodes_reach(
    scheme: str, host: str, near: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, came = near
    with pytest.raises(
        TransferFailed, match=r"address, from which agents do not download: add its|the address is invalid"
    ):
        await pull(f"{scheme}://{host}:{port}/latest", _DIGEST, tmp_path / "pulled", listed=[])
    assert came == []


async def test_pull__of_a_registry_is_under_the_same_rule(near: tuple[int, list[str]], tmp_path: Path) -> None:
    port, came = near
    with pytest.raises(TransferFailed, match="the server has a loopback address"):
        await pull(f"oci://127.0.0.1:{port}/m@{_DIGEST}", _DIGEST, tmp_path / "pulled", listed=["127.0.0.1:1"])
    assert came == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1,10.0.0.1", "127.0.0.1,::1"])
async def test_pull__checks_every_address_of_a_name_and_tells_none(
    address: str, near: tuple[int, list[str]], names: dict[str, list[str]], tmp_path: Path
) -> None:
    port, came = near
    names["metadata.test"] = [address]
    with pytest.raises(TransferFailed) as failure:
        await pull(f"http://metadata.test:{port}/latest", _DIGEST, tmp_path / "pulled", listed=[])
    assert came == []
    assert not [one for one in address.split(",") if one in str(failure.value)], (
        "names of the node's network stay there"
    )


async def test_pull__of_a_name_that_changes_its_address_connects_to_the_one_that_was_checked(
    near: tuple[int, list[str]], names: dict[str, list[str]], tmp_path: Path
) -> None:
    """A first answer on the internet (which this test does not reach), the next one at home."""
    port, came = near
    names["rebinding.test"] = ["127.0.0.1", "240.0.0.1", "127.0.0.1"]
    for _ in range(4):
        with pytest.raises(TransferFailed, match="address, from which agents do not download"):
            await pull(f"http://rebinding.test:{port}/", _DIGEST, tmp_path / "pulled", listed=[])
    assert came == []


@pytest.mark.parametrize(
    "location", ["https://127.0.0.1:{port}/", "https://hidden.test:{port}/", "//127.0.0.1:{port}/"]
)
async def test_pull__checks_each_hop_of_a_redirect(
    location: str, near: tuple[int, list[str]], names: dict[str, list[str]], tmp_path: Path
) -> None:
    port, came = near
    names["hidden.test"] = ["::ffff:127.0.0.1"]
    async with _server({"/model": _to(location.format(port=port))}) as server:
        with pytest.raises(TransferFailed, match=r"from which agents do not download|must use https"):
            await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled")
    assert came == []


async def test_pull__of_a_listed_name_may_have_any_address(names: dict[str, list[str]], tmp_path: Path) -> None:
    async with _server({f"/v2/m/blobs/{_DIGEST}": lambda: web.Response(body=_MODEL)}) as server:
        names["registry.test"] = ["127.0.0.1"]
        listed = [f"http://registry.test:{server.port}"]
        await pull(f"oci://registry.test:{server.port}/m@{_DIGEST}", _DIGEST, tmp_path / "pulled", listed=listed)
    assert (tmp_path / "pulled").read_bytes() == _MODEL


async def test_pull__sends_no_credentials_and_repeats_none(tmp_path: Path) -> None:
    """Of a Model that was stored before they were refused, or of a redirect."""
    asked: list[str] = []

    def answer() -> web.Response:
        asked.append("asked")
        return web.Response(body=_MODEL)

    async with _server({"/model": answer, "/to": _to("//me:hunter2@127.0.0.1/x?token=hunter2")}) as server:
        port = server.port
        for uri in (f"http://me:hunter2@127.0.0.1:{port}/model?token=hunter2", f"http://127.0.0.1:{port}/to"):
            with pytest.raises(TransferFailed, match=f"^http://127.0.0.1:{port}/") as failure:
                await pull(uri, _DIGEST, tmp_path / "pulled", listed=[f"127.0.0.1:{port}"])
            assert "hunter2" not in str(failure.value)
    assert asked == []


async def test_pull__stops_at_the_most_that_is_allowed(tmp_path: Path) -> None:
    async with _server({"/model": lambda: web.Response(body=bytes(5000))}) as server:
        with pytest.raises(TransferFailed, match="the content exceeds the limit of 4999 bytes"):
            await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled", max_bytes=4999)
    assert list(tmp_path.iterdir()) == []
