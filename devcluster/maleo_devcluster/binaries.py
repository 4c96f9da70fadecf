"""Provider of the Kubernetes binaries and the registry: found here, cached, downloaded, or built from Go modules."""

import hashlib
import http.client
import math
import os
import platform
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VERSION: Final = "v1.35.8"
ETCD_VERSION: Final = "v3.6.5"
REGISTRY_VERSION: Final = "v3.1.2"
ETCD: Final = "etcd"
CONTROL_PLANE: Final = (ETCD, "kube-apiserver")
KUBECTL: Final = "kubectl"
ALL: Final = (*CONTROL_PLANE, "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", KUBECTL)
REGISTRY: Final = "registry"
"""CNCF Distribution. Debian installs it as `docker-registry`."""
ROOTLESS: Final = (*CONTROL_PLANE, "kube-controller-manager", "kube-scheduler", KUBECTL, REGISTRY)
"""Programs of a cluster whose nodes are processes of an ordinary user."""

_DOWNLOADS: Final = "https://dl.k8s.io/release"
_ETCD_DOWNLOADS: Final = "https://github.com/etcd-io/etcd/releases/download"
_REGISTRY_DOWNLOADS: Final = "https://github.com/distribution/distribution/releases/download"
_REGISTRY_MODULE: Final = "github.com/distribution/distribution/v3"
_REGISTRY_NAMES: Final = ("docker-registry", REGISTRY)
_CONNECT_S: Final = 5.0
_MB: Final = 1_000_000
_PROGRESS_S: Final = 5.0  # each report is a line of its own in a log
_BUILD_SECONDS: Final = {
    "kube-apiserver": 271,
    "kubelet": 49,
    "kube-controller-manager": 30,
    "etcd": 14,
    "registry": 140,
}


class NotFound(Exception):
    """A binary was not found and could not be obtained; the message says what was tried and what to do."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Sources of binaries, in order of preference. `explicit` and `assets` are folders given by the user.

    path: value of PATH, where an installed registry is searched.
    """

    explicit: Path | None
    cache: Path
    assets: Path | None
    path: str | None
    downloads: str
    etcd_downloads: str
    registry_downloads: str
    go: str | None

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Sources":
        """Return the sources that the environment variables select, else the defaults."""
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        home = Path(environment.get("MALEO_CACHE", Path.home() / ".cache" / "maleo"))
        return cls(
            explicit=_folder(environment.get("MALEO_BINARIES")),
            cache=home / "bin" / f"{VERSION}-{machine}",
            assets=_folder(environment.get("KUBEBUILDER_ASSETS")),
            path=environment.get("PATH"),
            downloads=environment.get("MALEO_DOWNLOADS", _DOWNLOADS),
            etcd_downloads=environment.get("MALEO_ETCD_DOWNLOADS", _ETCD_DOWNLOADS),
            registry_downloads=environment.get("MALEO_REGISTRY_DOWNLOADS", _REGISTRY_DOWNLOADS),
            go=shutil.which("go", path=environment.get("PATH")),
        )


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Release:
    """A published file. sums: URL of its SHA-256; member: path of the binary in an archive, empty for a bare binary."""

    version: str
    url: str
    sums: str
    member: str = ""

    @classmethod
    def of(cls, name: str, sources: Sources) -> "_Release":
        architecture = sources.cache.name.rpartition("-")[2]
        if name == ETCD:
            folder, archive = f"{sources.etcd_downloads}/{ETCD_VERSION}", f"etcd-{ETCD_VERSION}-linux-{architecture}"
            return cls(ETCD_VERSION, f"{folder}/{archive}.tar.gz", f"{folder}/SHA256SUMS", member=f"{archive}/etcd")
        if name == REGISTRY:
            archive = f"registry_{REGISTRY_VERSION.removeprefix('v')}_linux_{architecture}.tar.gz"
            url = f"{sources.registry_downloads}/{REGISTRY_VERSION}/{archive}"
            return cls(REGISTRY_VERSION, url, f"{url}.sha256", member=REGISTRY)
        url = f"{sources.downloads}/{VERSION}/bin/linux/{architecture}/{name}"
        return cls(VERSION, url, f"{url}.sha256")

    def sum_in(self, text: str) -> str | None:
        """Return the checksum in a checksum file: the only one, or that of this file's name; None if there is none."""
        rows = [line.split() for line in text.splitlines() if line.strip()]
        return next((row[0] for row in rows if row[1:] in ([], [self.url.rpartition("/")[2]])), None)


@dataclass(frozen=True, slots=True)
class _Package:
    """A Go package.

    modules: folder of the go.mod that pins its version; stamps: variable -> value, set by the linker.
    """

    path: str
    modules: Path
    stamps: Mapping[str, str]

    @classmethod
    def of(cls, name: str) -> "_Package":
        modules = Path(__file__).parent.parent / "binaries"
        if name == ETCD:
            return cls("go.etcd.io/etcd/server/v3", modules, {})
        if name == REGISTRY:
            stamps = {f"{_REGISTRY_MODULE}/version.version": REGISTRY_VERSION.removeprefix("v")}
            return cls(f"{_REGISTRY_MODULE}/cmd/registry", modules / REGISTRY, stamps)
        component, client = "k8s.io/component-base/version", "k8s.io/client-go/pkg/version"
        major, minor, _ = VERSION.removeprefix("v").split(".")
        stamps = {
            f"{component}.gitVersion": VERSION,
            f"{component}.gitMajor": major,
            f"{component}.gitMinor": minor,
            f"{client}.gitVersion": VERSION,
        }
        return cls(f"k8s.io/kubernetes/cmd/{name}", modules, stamps)


def find(name: str, sources: Sources) -> Path | None:
    """Return the path of the binary if it is on this machine, else None. Only the registry is searched on PATH."""
    aliases = _REGISTRY_NAMES if name == REGISTRY else (name,)
    folders = [sources.explicit, sources.cache, sources.assets if name in CONTROL_PLANE else None]
    candidates = [folder / alias for folder in folders if folder is not None for alias in aliases]
    if name == REGISTRY:
        installed = [shutil.which(alias, path=sources.path) for alias in aliases]
        candidates += [Path(path) for path in installed if path is not None]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def ensure(names: tuple[str, ...], sources: Sources, say: Say, *, progress_s: float = _PROGRESS_S) -> dict[str, Path]:
    """Return name -> path of each binary, downloaded or built if needed. Raise NotFound with the remedy.

    progress_s: shortest time between two reports of one download, in seconds.
    """
    found = {name: find(name, sources) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if len(missing) > 1:
        say(f"{len(missing)} of {len(names)} programs are missing: {', '.join(missing)}")
    return {name: path if path is not None else _obtain(name, sources, say, progress_s) for name, path in found.items()}


def estimate_build_seconds(names: tuple[str, ...], sources: Sources) -> int:
    """Return an estimate in seconds of `ensure` in the worst case, when every missing binary is built from source."""
    missing = [name for name in names if find(name, sources) is None]
    return sum(_BUILD_SECONDS.get(name, 10) for name in missing)


def _obtain(name: str, sources: Sources, say: Say, progress_s: float) -> Path:
    target, release = sources.cache / name, _Release.of(name, sources)
    target.parent.mkdir(parents=True, exist_ok=True)
    if _download(name, release, target, say, progress_s):
        return target
    if sources.go is None:
        remedy = "set MALEO_BINARIES to a folder with the Kubernetes binaries"
        if name == REGISTRY:
            remedy = "install `docker-registry`"
        raise NotFound(
            f"{name} {release.version} not found: it could not be downloaded from {release.url}, and Go is missing to "
            f"build it: install Go 1.26, or {remedy}"
        )
    _build(name, release.version, target, sources, say)
    return target


def _download(name: str, release: _Release, target: Path, say: Say, progress_s: float) -> bool:
    """Download and verify the binary. Return False if the server is unreachable or lacks the file.

    Raise NotFound if the checksum does not match.
    """
    partial = target.with_suffix(".partial")
    try:
        with urllib.request.urlopen(release.sums, timeout=_CONNECT_S) as answer:  # noqa: S310 - base URL from `Sources`
            expected = release.sum_in(answer.read().decode())
        if expected is None:
            return False
        with urllib.request.urlopen(release.url, timeout=60) as answer, partial.open("wb") as output:  # noqa: S310
            progress = _Progress(f"downloading {name} {release.version}", _length(answer), say, progress_s)
            digest = hashlib.sha256()
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                output.write(chunk)
                progress.add(len(chunk))
    except (urllib.error.URLError, OSError):
        partial.unlink(missing_ok=True)
        return False
    if digest.hexdigest() != expected:
        partial.unlink()
        raise NotFound(f"{release.url} does not match its published SHA-256: nothing was installed; run it again")
    if release.member:
        _unpack(partial, release.member)
    partial.chmod(0o755)
    partial.rename(target)
    return True


def _length(answer: http.client.HTTPResponse) -> int | None:
    """Return the Content-Length of an HTTP response in bytes, None if it has none."""
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


class _Progress:
    """Progress of one download in MB (10^6 bytes): reported at its start, then at most every `interval_s` seconds."""

    def __init__(self, what: str, total: int | None, say: Say, interval_s: float) -> None:
        self._what, self._say, self._interval_s = what, say, interval_s
        self._total = None if total is None else math.ceil(total / _MB)
        self._done = 0
        self._reported = time.monotonic()
        say(what if self._total is None else f"{what} ({self._total} MB)")

    def add(self, size: int) -> None:
        """Count `size` more bytes."""
        self._done += size
        now = time.monotonic()
        if now - self._reported >= self._interval_s:
            self._reported = now
            of_total = "" if self._total is None else f" of {self._total}"
            self._say(f"{self._what}: {self._done // _MB}{of_total} MB")


def _unpack(archive: Path, member: str) -> None:
    """Replace the archive by its member; no other member is extracted."""
    unpacked = archive.with_suffix(".unpacked")
    with tarfile.open(archive) as opened, unpacked.open("wb") as output:
        program = opened.extractfile(member)
        assert program is not None, "a regular file"
        shutil.copyfileobj(program, output)
    unpacked.rename(archive)


def _build(name: str, version: str, target: Path, sources: Sources, say: Say) -> None:
    package = _Package.of(name)
    flags = " ".join(["-s", "-w", *(f"-X {variable}={value}" for variable, value in package.stamps.items())])
    say(f"building {name} {version} from source (once, about {_BUILD_SECONDS.get(name, 10)} s on two cores)")
    partial = target.with_suffix(".partial")
    assert sources.go is not None
    command = [sources.go, "build", "-mod=mod", "-trimpath", "-tags=selinux,notest,grpcnotrace", "-ldflags", flags]
    done = subprocess.run(
        [*command, "-o", str(partial), package.path],
        cwd=package.modules,
        env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotFound(f"building {name} failed (requires Go 1.26):\n{done.stderr[-1500:]}")
    partial.rename(target)


def _folder(text: str | None) -> Path | None:
    return Path(text) if text else None
