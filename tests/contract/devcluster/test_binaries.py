"""Sources of the Kubernetes programs and the registry: local folders, then a server that publishes checksums."""

import hashlib
import http.server
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from maleo_cli.commands.cluster import app
from maleo_cli.errors import Failure
from maleo_devcluster import binaries
from maleo_devcluster.binaries import (
    ETCD_VERSION,
    REGISTRY,
    REGISTRY_VERSION,
    ROOTLESS,
    VERSION,
    NotFound,
    Sources,
    ensure,
    find,
)

_PROGRAM = b"#!/bin/sh\n"


def _sum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _archive(folder: str, program: str = "etcd") -> bytes:
    """Return a release archive: several programs and documents, in one folder as of etcd or in none ("")."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, body in {"README.md": b"read", "another": b"another", program: _PROGRAM}.items():
            row = tarfile.TarInfo(f"{folder}/{name}".lstrip("/"))
            row.size = len(body)
            archive.addfile(row, io.BytesIO(body))
    return packed.getvalue()


class _Downloads(http.server.BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}
    with_length: ClassVar[bool] = True

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        self.send_response(404 if body is None else 200)
        if self.with_length:
            self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the interface
        return


def _published(machine: str) -> dict[str, bytes]:
    """Return path -> content: kubectl and its checksum, kubelet with a wrong one, archives of etcd and the registry."""
    bare, packed = f"/{VERSION}/bin/linux/{machine}", f"/etcd/{ETCD_VERSION}"
    archives = {name: _archive(name) for name in (f"etcd-{ETCD_VERSION}-linux-{m}" for m in ("s390x", machine))}
    registry = f"/registry/{REGISTRY_VERSION}/registry_{REGISTRY_VERSION.removeprefix('v')}_linux_{machine}.tar.gz"
    release = _archive("", REGISTRY)
    sums = "".join(f"{_sum(body)}  {name}.tar.gz\n" for name, body in archives.items())
    return {
        f"{bare}/kubectl": _PROGRAM,
        f"{bare}/kubectl.sha256": _sum(_PROGRAM).encode(),
        f"{bare}/kubelet": _PROGRAM,
        f"{bare}/kubelet.sha256": _sum(b"another").encode(),
        registry: release,
        f"{registry}.sha256": f"{_sum(release)}\n".encode(),
        f"{packed}/SHA256SUMS": sums.encode(),
        **{f"{packed}/{name}.tar.gz": body for name, body in archives.items()},
    }


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sources]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Downloads)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {
        "MALEO_CACHE": str(tmp_path / "cache"),
        "MALEO_BINARIES": str(tmp_path / "explicit"),
        "KUBEBUILDER_ASSETS": str(tmp_path / "assets"),
        "MALEO_DOWNLOADS": f"http://127.0.0.1:{server.server_port}",
        "MALEO_ETCD_DOWNLOADS": f"http://127.0.0.1:{server.server_port}/etcd",
        "MALEO_REGISTRY_DOWNLOADS": f"http://127.0.0.1:{server.server_port}/registry",
        "PATH": str(tmp_path),
    }
    made = Sources.of(variables)
    monkeypatch.setattr(_Downloads, "files", _published(made.cache.name.rpartition("-")[2]))
    yield made
    server.shutdown()
    server.server_close()


def _put(folder: Path | None, name: str) -> Path:
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(_PROGRAM)
    path.chmod(0o755)
    return path


def test_program__is_searched_in_the_explicit_folder_then_the_cache_then_the_assets(sources: Sources) -> None:
    assert find("etcd", sources) is None
    for folder in (sources.assets, sources.cache, sources.explicit):
        assert find("etcd", sources) != _put(folder, "etcd") == find("etcd", sources)
    _put(sources.assets, "kubelet")
    assert find("kubelet", sources) is None, "the assets hold a control plane only"


def test_program__is_downloaded_once_and_checked(sources: Sources) -> None:
    messages: list[str] = []
    assert ensure(("kubectl",), sources, messages.append)["kubectl"].read_bytes() == _PROGRAM
    assert ensure(("kubectl",), sources, messages.append)["kubectl"].parent == sources.cache
    assert messages == [f"downloading kubectl {VERSION} (1 MB)"]


@pytest.mark.parametrize(("with_length", "size", "of_total"), [(True, " (3 MB)", " of 3"), (False, "", "")])
def test_download__reports_how_much_is_done(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, size: str, of_total: str, *, with_length: bool
) -> None:
    monkeypatch.setattr(_Downloads, "with_length", with_length)
    (path,) = (path for path in _Downloads.files if path.endswith("/kubectl"))
    _Downloads.files |= {path: bytes(2_500_000), f"{path}.sha256": _sum(bytes(2_500_000)).encode()}
    messages: list[str] = []
    ensure(("kubectl",), sources, messages.append, progress_s=0)
    assert messages[0] == f"downloading kubectl {VERSION}{size}"
    assert messages[-1] == f"downloading kubectl {VERSION}: 2{of_total} MB"


def test_missing_programs__are_counted_before_the_first_download(sources: Sources) -> None:
    _put(sources.cache, "kube-apiserver")
    messages: list[str] = []
    ensure(("etcd", "kube-apiserver", "kubectl"), sources, messages.append)
    assert messages == [
        "2 of 3 programs are missing: etcd, kubectl",
        f"downloading etcd {ETCD_VERSION} (1 MB)",
        f"downloading kubectl {VERSION} (1 MB)",
    ]


def test_program_with_a_wrong_checksum__is_not_installed(sources: Sources) -> None:
    with pytest.raises(NotFound, match="does not match its published SHA-256: nothing was installed"):
        ensure(("kubelet",), sources, lambda _: None)
    assert list(sources.cache.iterdir()) == []


def test_etcd__is_the_only_file_extracted_from_its_release(sources: Sources) -> None:
    messages: list[str] = []
    path = ensure(("etcd",), sources, messages.append)["etcd"]
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (_PROGRAM, 0o755)
    assert list(sources.cache.iterdir()) == [path] == [find("etcd", sources)]
    assert messages == [f"downloading etcd {ETCD_VERSION} (1 MB)"]


def test_etcd_with_a_modified_release__is_not_installed(sources: Sources) -> None:
    (archive,) = (path for path in _Downloads.files if re.search(r"/etcd-.*(?<!s390x)\.tar\.gz$", path))
    _Downloads.files[archive] = _archive("another")
    with pytest.raises(NotFound, match=r"etcd-.*\.tar\.gz does not match its published SHA-256"):
        ensure(("etcd",), sources, lambda _: None)
    assert list(sources.cache.iterdir()) == []


def test_etcd_without_a_release_for_this_machine__is_reported_with_its_version(sources: Sources) -> None:
    sums = f"/etcd/{ETCD_VERSION}/SHA256SUMS"
    _Downloads.files[sums] = _Downloads.files[sums].splitlines(keepends=True)[0]
    with pytest.raises(NotFound, match=rf"etcd {ETCD_VERSION} .* could not be downloaded from http.*\.tar\.gz"):
        ensure(("etcd",), sources, lambda _: None)


def test_registry__is_searched_on_path_after_the_explicit_folder_and_the_cache(sources: Sources) -> None:
    assert sources.path is not None
    assert find(REGISTRY, sources) is None
    for folder, name in (
        (Path(sources.path), "registry"),
        (Path(sources.path), "docker-registry"),
        (sources.cache, "registry"),
        (sources.explicit, "registry"),
        (sources.explicit, "docker-registry"),
    ):
        assert find(REGISTRY, sources) != _put(folder, name) == find(REGISTRY, sources)
    _put(Path(sources.path), "kubectl")
    assert find("kubectl", sources) is None, "one on PATH may be of another version"


def test_registry__is_downloaded_as_an_archive_and_checked(sources: Sources) -> None:
    path = ensure((REGISTRY,), sources, lambda _: None)[REGISTRY]
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (_PROGRAM, 0o755)
    assert list(sources.cache.iterdir()) == [path] == [find(REGISTRY, sources)]


def test_registry_with_a_wrong_checksum__is_not_installed(sources: Sources) -> None:
    (sums,) = (path for path in _Downloads.files if path.startswith("/registry") and path.endswith(".sha256"))
    _Downloads.files[sums] = _sum(b"another").encode()
    with pytest.raises(NotFound, match=r"registry_.*\.tar\.gz does not match its published SHA-256"):
        ensure((REGISTRY,), sources, lambda _: None)
    assert list(sources.cache.iterdir()) == []


def test_missing_registry__is_reported_with_its_package(sources: Sources) -> None:
    _Downloads.files.clear()
    with pytest.raises(
        NotFound, match=rf"registry {REGISTRY_VERSION} .* install Go 1\.26, or install `docker-registry`"
    ):
        ensure((REGISTRY,), sources, lambda _: None)


def test_downloads__come_from_the_projects_unless_a_variable_names_a_mirror() -> None:
    official, mirrored = Sources.of({}), Sources.of({"MALEO_REGISTRY_DOWNLOADS": "http://mirror/registry"})
    assert official.registry_downloads == "https://github.com/distribution/distribution/releases/download"
    assert mirrored.registry_downloads == "http://mirror/registry"
    assert mirrored.etcd_downloads == official.etcd_downloads


@pytest.mark.parametrize(
    ("modules", "versions"),
    [
        ("go.mod", {"go.etcd.io/etcd/server/v3": ETCD_VERSION, "k8s.io/kubernetes": VERSION}),
        ("registry/go.mod", {"github.com/distribution/distribution/v3": REGISTRY_VERSION}),
    ],
)
def test_downloaded_versions__equal_those_built_from_source(modules: str, versions: dict[str, str]) -> None:
    text = (Path(binaries.__file__).parents[1] / "binaries" / modules).read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^(?:require )?\s*(\S+) (v\S+)(?: // indirect)?$", text, re.MULTILINE))
    assert versions.items() <= pinned.items()


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ([], binaries.ALL),
        (["--control-plane"], ("etcd", "kube-apiserver", "kubectl")),
        (["--processes"], ROOTLESS),
    ],
)
def test_command__prints_the_programs_that_the_option_selects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: list[str], names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MALEO_BINARIES", str(tmp_path))
    paths = [str(_put(tmp_path, name)) for name in names]
    assert CliRunner().invoke(app, ["binaries", *option]).stdout.splitlines() == paths


def test_command__rejects_both_options_together() -> None:
    result = CliRunner().invoke(app, ["binaries", "--control-plane", "--processes"])
    assert isinstance(result.exception, Failure)
    assert "cannot be combined" in str(result.exception)


def test_rootless_cluster__needs_neither_kubelet_nor_kube_proxy() -> None:
    assert set(ROOTLESS) == set(binaries.ALL) - {"kubelet", "kube-proxy"} | {REGISTRY}


def test_missing_program__is_reported_with_the_attempts_and_the_remedies(sources: Sources) -> None:
    with pytest.raises(
        NotFound, match=r"kube-proxy .* could not be downloaded .* install Go 1\.26, or .* MALEO_BINARIES"
    ):
        ensure(("kube-proxy",), sources, lambda _: None)
