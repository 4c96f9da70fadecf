"""Transfer of artifacts with a real registry and with misbehaving servers."""

import asyncio
import hashlib
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from maleo_artifacts import registry as transfers
from maleo_artifacts.address_policy import AddressPolicy
from maleo_artifacts.registry import DigestMismatch, NotFound, TransferFailed, push
from maleo_devcluster import binaries
from maleo_devcluster.registry import start_registry

_MAX_BYTES = 1 << 30
_MODEL = b"the model"
_DIGEST = f"sha256:{hashlib.sha256(_MODEL).hexdigest()}"


async def pull(
    uri: str, digest: str, destination: Path, *, max_bytes: int = _MAX_BYTES, listed: Sequence[str] | None = None
) -> None:
    """Pull with a policy that lists the server of `uri`, which is local. listed: servers to list instead."""
    names = [uri.split("/")[2]] if listed is None and not uri.startswith("file:") else listed or []
    await transfers.pull(uri, digest, destination, max_bytes=max_bytes, policy=AddressPolicy.parse(names))


def _registries() -> list[str | None]:
    """Return the installed registry and the one of the cache, as far as they exist; [None] without any."""
    sources = binaries.Sources.of()
    found = (shutil.which("docker-registry"), binaries.find(binaries.REGISTRY, sources))
    return list(dict.fromkeys(str(path) for path in found if path is not None)) or [None]


@pytest.fixture(scope="module", params=_registries())
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, leave_out: Callable[[str], NoReturn]
) -> Iterator[str]:
    if request.param is None:
        leave_out("no registry on this machine: `maleo cluster binaries --processes` gets one")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    folder = tmp_path_factory.mktemp("registry")
    process = start_registry(address, folder / "storage", folder, program=request.param)
    yield address
    process.stop()


async def test_push_and_pull__give_the_same_bytes_by_digest(registry: str, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(bytes(range(256)) * 10_000)
    uri, digest = await push(f"oci://{registry}/models/test", source)
    assert uri == f"oci://{registry}/models/test@{digest}"
    assert await push(f"oci://{registry}/models/test", source) == (uri, digest)  # a second push is not an error
    await pull(uri, digest, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == source.read_bytes()


async def test_pull_of_a_missing_artifact__is_not_found(registry: str, tmp_path: Path) -> None:
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
    assert hashlib.sha256(b"something else").hexdigest() not in str(failure.value), (
        "the digest would make the content downloadable"
    )
    assert list(tmp_path.iterdir()) == []


async def test_pull_of_a_truncated_response__stores_nothing(tmp_path: Path) -> None:
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
        digest = f"sha256:{hashlib.sha256(b'half').hexdigest()}"  # the partial content matches the digest
        with pytest.raises(TransferFailed, match="/model: Client"):
            await pull(str(server.make_url("/model")), digest, tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == []


async def test_pull_of_a_local_file__is_rejected(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"mine")
    digest = f"sha256:{hashlib.sha256(b'mine').hexdigest()}"
    with pytest.raises(TransferFailed, match="maleo model push"):
        await pull(secret.as_uri(), digest, tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == [secret]


async def test_pull_from_an_unreachable_server__is_a_transfer_error(tmp_path: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    with pytest.raises(TransferFailed, match="Connect"):
        await pull(f"oci://127.0.0.1:1/models/none@{digest}", digest, tmp_path / "pulled")


async def test_push_to_an_invalid_address__names_the_expected_form(tmp_path: Path) -> None:
    with pytest.raises(TransferFailed, match=r"use oci://host:port/repository"):
        await push("docker.example/model", tmp_path / "model")


def _server(answers: dict[str, Callable[[], web.Response]]) -> TestServer:
    """Return a server with one response for each path."""

    async def answer(request: web.Request) -> web.Response:
        return answers[request.path]()

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    return TestServer(app)


def _redirect(location: str) -> Callable[[], web.Response]:
    return lambda: web.Response(status=307, headers={"Location": location})


async def test_pull__hides_the_text_of_an_error_response(tmp_path: Path) -> None:
    """The server may be one that only nodes reach, and the message is shown in a status that users read."""
    async with _server({"/secret": lambda: web.Response(status=403, text="token=hunter2", reason="hunter2")}) as server:
        with pytest.raises(TransferFailed) as failure:
            await pull(str(server.make_url("/secret")), _DIGEST, tmp_path / "pulled")
        assert str(failure.value) == f"{server.make_url('/secret')}: the server returned HTTP status 403"


async def test_pull__hides_the_response_of_a_server_without_http(tmp_path: Path) -> None:
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


async def test_pull__follows_redirects_on_the_same_server(tmp_path: Path) -> None:
    async with _server({"/model": _redirect("/blob"), "/blob": lambda: web.Response(body=_MODEL)}) as server:
        await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == _MODEL


async def test_pull__does_not_follow_a_redirect_to_another_server_by_http(tmp_path: Path) -> None:
    requests: list[str] = []

    def answer() -> web.Response:
        requests.append("model")
        return web.Response(body=_MODEL)

    async with _server({"/model": answer}) as other:
        target = str(other.make_url("/model"))
        async with _server({"/model": _redirect(target)}) as server:
            with pytest.raises(TransferFailed, match="redirects to another server must use https"):
                await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled")
    assert requests == []


async def test_pull__follows_a_redirect_to_another_server_by_https(tmp_path: Path) -> None:
    """Registries redirect to their blob storage; the target here has no TLS, so that the attempt fails."""
    async with _server({}) as blobs, _server({"/model": _redirect(f"https://localhost:{blobs.port}/blob")}) as server:
        uri, listed = str(server.make_url("/model")), [f"{server.host}:{server.port}", f"localhost:{blobs.port}"]
        with pytest.raises(TransferFailed, match=f"Connect.*localhost:{blobs.port}"):
            await pull(uri, _DIGEST, tmp_path / "pulled", listed=listed)


async def test_pull__fails_on_circular_redirects(tmp_path: Path) -> None:
    async with _server({"/model": _redirect("/model")}) as server:
        with pytest.raises(TransferFailed, match="redirects more than 5 times"):
            await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled")


@pytest.fixture
async def local_server() -> AsyncIterator[tuple[int, list[str]]]:
    """Start a server on a local address; yield its port and the peers that connected, even without a request."""
    peers: list[str] = []

    def record(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(record, None, 0, family=socket.AF_INET)
    yield server.sockets[0].getsockname()[1], peers
    server.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return name -> addresses, one for each lookup, the last one repeatedly; `a,b` are two addresses at once."""
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
    scheme: str, host: str, local_server: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, peers = local_server
    with pytest.raises(
        TransferFailed, match=r"address, from which agents do not download: add its|the address is invalid"
    ):
        await pull(f"{scheme}://{host}:{port}/latest", _DIGEST, tmp_path / "pulled", listed=[])
    assert peers == []


async def test_pull__applies_the_address_policy_to_registries(
    local_server: tuple[int, list[str]], tmp_path: Path
) -> None:
    port, peers = local_server
    with pytest.raises(TransferFailed, match="the server has a loopback address"):
        await pull(f"oci://127.0.0.1:{port}/m@{_DIGEST}", _DIGEST, tmp_path / "pulled", listed=["127.0.0.1:1"])
    assert peers == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1,10.0.0.1", "127.0.0.1,::1"])
async def test_pull__checks_every_address_of_a_name_and_names_none(
    address: str, local_server: tuple[int, list[str]], names: dict[str, list[str]], tmp_path: Path
) -> None:
    port, peers = local_server
    names["metadata.test"] = [address]
    with pytest.raises(TransferFailed) as failure:
        await pull(f"http://metadata.test:{port}/latest", _DIGEST, tmp_path / "pulled", listed=[])
    assert peers == []
    assert not [one for one in address.split(",") if one in str(failure.value)], (
        "addresses of the node's network are not disclosed"
    )


async def test_pull__connects_to_the_checked_address_of_a_name(
    local_server: tuple[int, list[str]], names: dict[str, list[str]], tmp_path: Path
) -> None:
    """DNS rebinding: one lookup returns a public address, which is not reachable here, the next one a local address."""
    port, peers = local_server
    names["rebinding.test"] = ["127.0.0.1", "240.0.0.1", "127.0.0.1"]
    for _ in range(4):
        with pytest.raises(TransferFailed, match="address, from which agents do not download"):
            await pull(f"http://rebinding.test:{port}/", _DIGEST, tmp_path / "pulled", listed=[])
    assert peers == []


@pytest.mark.parametrize(
    "location", ["https://127.0.0.1:{port}/", "https://hidden.test:{port}/", "//127.0.0.1:{port}/"]
)
async def test_pull__checks_each_hop_of_a_redirect(
    location: str, local_server: tuple[int, list[str]], names: dict[str, list[str]], tmp_path: Path
) -> None:
    port, peers = local_server
    names["hidden.test"] = ["::ffff:127.0.0.1"]
    async with _server({"/model": _redirect(location.format(port=port))}) as server:
        with pytest.raises(TransferFailed, match=r"from which agents do not download|must use https"):
            await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled")
    assert peers == []


async def test_pull__accepts_any_address_of_a_listed_name(names: dict[str, list[str]], tmp_path: Path) -> None:
    async with _server({f"/v2/m/blobs/{_DIGEST}": lambda: web.Response(body=_MODEL)}) as server:
        names["registry.test"] = ["127.0.0.1"]
        listed = [f"http://registry.test:{server.port}"]
        await pull(f"oci://registry.test:{server.port}/m@{_DIGEST}", _DIGEST, tmp_path / "pulled", listed=listed)
    assert (tmp_path / "pulled").read_bytes() == _MODEL


async def test_pull__sends_no_credentials_and_repeats_none(tmp_path: Path) -> None:
    """URLs with credentials may come from a Model that was stored before they were rejected, or from a redirect."""
    requests: list[str] = []

    def answer() -> web.Response:
        requests.append("model")
        return web.Response(body=_MODEL)

    async with _server({"/model": answer, "/to": _redirect("//me:hunter2@127.0.0.1/x?token=hunter2")}) as server:
        port = server.port
        for uri in (f"http://me:hunter2@127.0.0.1:{port}/model?token=hunter2", f"http://127.0.0.1:{port}/to"):
            with pytest.raises(TransferFailed, match=f"^http://127.0.0.1:{port}/") as failure:
                await pull(uri, _DIGEST, tmp_path / "pulled", listed=[f"127.0.0.1:{port}"])
            assert "hunter2" not in str(failure.value)
    assert requests == []


async def test_pull__stops_at_the_size_limit(tmp_path: Path) -> None:
    async with _server({"/model": lambda: web.Response(body=bytes(5000))}) as server:
        with pytest.raises(TransferFailed, match="the content exceeds the limit of 4999 bytes"):
            await pull(str(server.make_url("/model")), _DIGEST, tmp_path / "pulled", max_bytes=4999)
    assert list(tmp_path.iterdir()) == []
