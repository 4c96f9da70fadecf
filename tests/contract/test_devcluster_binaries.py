"""Where the programs of Kubernetes come from: at hand first, then a server that publishes their checksums."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from maleo_devcluster.binaries import VERSION, NotFound, Sources, ensure, find

_PROGRAM = b"#!/bin/sh\n"


class _Downloads(http.server.BaseHTTPRequestHandler):
    """Serves kubectl with its checksum, and kubelet with the one of something else."""

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        sums = {
            "kubectl.sha256": hashlib.sha256(_PROGRAM).hexdigest(),
            "kubelet.sha256": hashlib.sha256(b"another").hexdigest(),
        }
        body = sums[name].encode() if name in sums else _PROGRAM if f"{name}.sha256" in sums else None
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the interface
        return


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Sources]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Downloads)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {
        "MALEO_CACHE": str(tmp_path / "cache"),
        "MALEO_BINARIES": str(tmp_path / "explicit"),
        "KUBEBUILDER_ASSETS": str(tmp_path / "assets"),
        "MALEO_DOWNLOADS": f"http://127.0.0.1:{server.server_port}",
        "PATH": str(tmp_path),
    }
    yield Sources.of(variables)
    server.shutdown()
    server.server_close()


def _put(folder: Path | None, name: str) -> Path:
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(_PROGRAM)
    path.chmod(0o755)
    return path


def test_program__is_taken_from_the_explicit_folder_then_the_cache_then_the_assets(sources: Sources) -> None:
    assert find("etcd", sources) is None
    for folder in (sources.assets, sources.cache, sources.explicit):
        assert find("etcd", sources) != _put(folder, "etcd") == find("etcd", sources)
    _put(sources.assets, "kubelet")
    assert find("kubelet", sources) is None, "the assets hold a control plane only"


def test_program__is_downloaded_once_and_checked(sources: Sources) -> None:
    said: list[str] = []
    assert ensure(("kubectl",), sources, said.append)["kubectl"].read_bytes() == _PROGRAM
    assert ensure(("kubectl",), sources, said.append)["kubectl"].parent == sources.cache
    assert said == [f"downloading kubectl {VERSION}"]


def test_program__with_another_checksum_is_not_kept(sources: Sources) -> None:
    with pytest.raises(NotFound, match="does not match its published SHA-256: nothing was installed"):
        ensure(("kubelet",), sources, lambda _: None)
    assert list(sources.cache.iterdir()) == []


def test_program__that_is_nowhere_says_what_was_tried_and_what_to_do(sources: Sources) -> None:
    with pytest.raises(
        NotFound, match=r"kube-proxy .* could not be downloaded .* install Go 1\.26, or .* MALEO_BINARIES"
    ):
        ensure(("kube-proxy",), sources, lambda _: None)
