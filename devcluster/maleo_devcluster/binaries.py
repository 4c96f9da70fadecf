"""Where the programs of Kubernetes come from: at hand, cached, downloaded, or built from their Go modules."""

import hashlib
import os
import platform
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VERSION: Final = "v1.35.8"
ETCD: Final = "etcd"
CONTROL_PLANE: Final = (ETCD, "kube-apiserver")
KUBECTL: Final = "kubectl"
ALL: Final = (*CONTROL_PLANE, "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", KUBECTL)

_DOWNLOADS: Final = "https://dl.k8s.io/release"
_CONNECT_S: Final = 5.0
_BUILD_SECONDS: Final = {"kube-apiserver": 271, "kubelet": 49, "kube-controller-manager": 30, "etcd": 14}


class NotFound(Exception):
    """A program is nowhere and cannot be had; the message says what was tried and what to do."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look, in this order. `explicit` and `assets` are folders of people's own."""

    explicit: Path | None
    cache: Path
    assets: Path | None
    downloads: str
    go: str | None

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Sources":
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        home = Path(environment.get("MALEO_CACHE", Path.home() / ".cache" / "maleo"))
        return cls(
            explicit=_folder(environment.get("MALEO_BINARIES")),
            cache=home / "bin" / f"{VERSION}-{machine}",
            assets=_folder(environment.get("KUBEBUILDER_ASSETS")),
            downloads=environment.get("MALEO_DOWNLOADS", _DOWNLOADS),
            go=shutil.which("go", path=environment.get("PATH")),
        )


Say = Callable[[str], None]


def find(name: str, sources: Sources) -> Path | None:
    """The program when it is already on this machine."""
    folders = [sources.explicit, sources.cache, sources.assets if name in CONTROL_PLANE else None]
    candidates = [folder / name for folder in folders if folder is not None]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def ensure(names: tuple[str, ...], sources: Sources, say: Say) -> dict[str, Path]:
    """Every program of `names`, downloaded or built where needed. NotFound says what to do about it."""
    found: dict[str, Path] = {}
    for name in names:
        path = find(name, sources)
        found[name] = path if path is not None else _obtain(name, sources, say)
    return found


def foresee(names: tuple[str, ...], sources: Sources) -> int:
    """Seconds that `ensure` takes at most, when nothing can be downloaded and all that is missing is built."""
    missing = [name for name in names if find(name, sources) is None]
    return sum(_BUILD_SECONDS.get(name, 10) for name in missing)


def _obtain(name: str, sources: Sources, say: Say) -> Path:
    target = sources.cache / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if name != ETCD and _download(name, target, sources, say):
        return target
    if sources.go is None:
        raise NotFound(
            f"{name} {VERSION} is not on this machine, could not be downloaded from {sources.downloads}, and there is "
            f"no Go to build it: install Go 1.26, or put the programs into a folder and set MALEO_BINARIES to it"
        )
    _build(name, target, sources, say)
    return target


def _download(name: str, target: Path, sources: Sources, say: Say) -> bool:
    """False when the server cannot be reached or has no such file; a wrong checksum is an error."""
    architecture = sources.cache.name.rpartition("-")[2]
    url = f"{sources.downloads}/{VERSION}/bin/linux/{architecture}/{name}"
    partial = target.with_suffix(".partial")
    try:
        with urllib.request.urlopen(f"{url}.sha256", timeout=_CONNECT_S) as answer:  # noqa: S310 - a base URL of ours
            expected = answer.read().decode().split()[0]
        say(f"downloading {name} {VERSION}")
        digest = hashlib.sha256()
        with urllib.request.urlopen(url, timeout=60) as answer, partial.open("wb") as output:  # noqa: S310 - as above
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                output.write(chunk)
    except (urllib.error.URLError, OSError, IndexError):
        partial.unlink(missing_ok=True)
        return False
    if digest.hexdigest() != expected:
        partial.unlink()
        raise NotFound(f"{url} does not match its published SHA-256: nothing was installed; try again")
    partial.chmod(0o755)
    partial.rename(target)
    return True


def _build(name: str, target: Path, sources: Sources, say: Say) -> None:
    package = "go.etcd.io/etcd/server/v3" if name == ETCD else f"k8s.io/kubernetes/cmd/{name}"
    component, client = "k8s.io/component-base/version", "k8s.io/client-go/pkg/version"
    major, minor, _ = VERSION.removeprefix("v").split(".")
    stamps = {
        f"{component}.gitVersion": VERSION,
        f"{component}.gitMajor": major,
        f"{component}.gitMinor": minor,
        f"{client}.gitVersion": VERSION,
    }
    flags = " ".join(["-s", "-w", *(f"-X {variable}={value}" for variable, value in stamps.items())])
    say(f"building {name} {VERSION} from its Go modules, once (about {_BUILD_SECONDS.get(name, 10)} s on two cores)")
    partial = target.with_suffix(".partial")
    assert sources.go is not None
    command = [sources.go, "build", "-mod=mod", "-trimpath", "-tags=selinux,notest,grpcnotrace", "-ldflags", flags]
    done = subprocess.run(
        [*command, "-o", str(partial), package],
        cwd=Path(__file__).parent.parent / "binaries",
        env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotFound(f"building {name} failed (Go 1.26 is needed):\n{done.stderr[-1500:]}")
    partial.rename(target)


def _folder(text: str | None) -> Path | None:
    return Path(text) if text else None
