"""Builder of the components' container images without a Docker engine: buildah with chroot isolation.

The Python packages of a component are installed on the host into its build context, so that the build needs no
network and layers are cached by content. The image tag is the digest of all inputs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maleo_devcluster.lockfile import NotLocked, select

PAUSE: Final = "pause"
COMPONENTS: Final = {"operator": "operator", "agent": "node_agent", "slot": "runtime"}  # image -> folder
_EXTRAS: Final = {"operator": "operator", "agent": "agent", "slot": "runtime"}
_SOURCES: Final = ("crds/maleo_api", "lib/maleo_service", "lib/maleo_wire")
_PACKAGES: Final = {
    "operator": ("operator/maleo_operator", "planner/maleo_planner", "lib/maleo_kube"),
    "agent": ("node_agent/maleo_agent", "lib/maleo_kube", "lib/maleo_artifacts"),
    "slot": ("runtime/maleo_runtime",),
}
_BASE_PACKAGES: Final = "python3,ca-certificates"
_SUITE: Final = "bookworm"
_PYTHON: Final = "3.11"
"""Python version of `_SUITE` and of the base image: wheels are chosen for it, not for the Python of this machine."""

Say = Callable[[str], None]


class BuildFailed(Exception):
    """An image could not be built; the message contains the end of the tool's output."""


@dataclass(frozen=True, slots=True)
class Builder:
    """Builder of images from the checkout `source`, pushed to `registry` (ip:port); `cache` keeps packages and layers.

    platform: platform of the images in uv's notation (x86_64-manylinux_2_28); empty for that of this machine.
    """

    source: Path
    cache: Path
    registry: str
    say: Say
    platform: str = ""

    def build_pause(self) -> str:
        """Build and push the pause image (a waiting busybox that holds a pod's namespaces); return its reference."""
        reference = f"{self.registry}/maleo/{PAUSE}:1"
        if self._is_pushed(PAUSE, "1"):
            return reference
        folder = self.cache / "pause"
        folder.mkdir(parents=True, exist_ok=True)
        busybox = shutil.which("busybox")
        assert busybox is not None, "host.missing_packages was checked before"
        shutil.copy(busybox, folder / "busybox")
        dockerfile = 'FROM scratch\nCOPY busybox /busybox\nENTRYPOINT ["/busybox", "tail", "-f", "/dev/null"]\n'
        (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
        self._buildah("build", "--tag", reference, str(folder))
        self._push(reference)
        return reference

    def build(self, component: str) -> str:
        """Build and push the image of `operator`, `agent` or `slot` unless its tag is pushed; return its reference."""
        reference = f"{self.registry}/maleo/{component}:{self._tag(component)}"
        if self._is_pushed(component, self._tag(component)):
            return reference
        base = self._make_base()
        context, _ = self.prepare(component)
        self.say(f"image {component}: building")
        self._buildah("build", "--build-arg", f"BASE={base}", "--tag", reference, str(context))
        self.say(f"image {component}: pushing")
        self._push(reference)
        self._drop_older(component, reference)
        return reference

    @staticmethod
    def is_prepared(cache: Path) -> bool:
        """Return True if base system and packages are cached, possibly for an older lock file."""
        return (cache / "buildah").is_dir() and (cache / "packages").is_dir()

    def prepare(self, component: str) -> tuple[Path, str]:
        """Create the build context of the component, for any build tool; return its folder and the image tag."""
        context = self.cache / "context" / component
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir(parents=True)
        # Dependencies are a layer of their own: it is most of the image and changes only with the lock file.
        shutil.copytree(self._packages(component), context / "site-packages", copy_function=os.link)
        for package in (*_SOURCES, *_PACKAGES[component]):
            target = context / "maleo" / Path(package).name
            shutil.copytree(self.source / package, target, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(self.source / COMPONENTS[component] / "Dockerfile", context / "Dockerfile")
        return context, self._tag(component)

    def _make_base(self) -> str:
        """Return the base image, a minimal Debian with Python instead of a public image; build it once."""
        reference = "localhost/maleo-base:1"
        if self._has_image(reference):
            return reference
        root = self.cache / "base"
        shutil.rmtree(root, ignore_errors=True)
        self.say("building the base image: minimal Debian with Python (once, about a minute)")
        _run(["debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", _SUITE, str(root)])
        for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / unneeded, ignore_errors=True)
        context = self.cache / "base-context"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        root.rename(context / "root")
        (context / "Dockerfile").write_text("FROM scratch\nCOPY root /\n", encoding="utf-8")
        self._buildah("build", "--tag", reference, str(context))
        shutil.rmtree(context)
        return reference

    def _packages(self, component: str) -> Path:
        """Return the folder of the component's locked dependencies, without Maleo; installed once per lock file."""
        locked = [self.source / "requirements.lock", self.source / "pyproject.toml"]
        digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in locked)).hexdigest()[:16]
        target = self.cache / "packages" / "-".join(filter(None, (component, digest, self.platform)))
        if target.exists():
            return target
        self.say(f"image {component}: installing packages")
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        requirements = target.with_suffix(".txt")
        requirements.write_text(self._pinned(component), encoding="utf-8")
        installer = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(partial)]
        installer += [*self._target_options(), "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        _run([*installer, "--requirement", str(requirements)])
        for folder in [*partial.rglob("__pycache__"), *partial.rglob("tests")]:
            shutil.rmtree(folder, ignore_errors=True)
        partial.rename(target)
        return target

    def _pinned(self, component: str) -> str:
        """Return the requirements of the component from the lock file, with versions, markers and hashes."""
        lock = self.source / "requirements.lock"
        resolver = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
        resolver += [*self._target_options(), "--extra", _EXTRAS[component], "--constraint", str(lock)]
        pins = _run([*resolver, str(self.source / "pyproject.toml")]).splitlines()
        try:
            return select(lock.read_text(encoding="utf-8"), [pin for pin in pins if pin])
        except NotLocked as error:
            raise BuildFailed(str(error)) from error

    def _target_options(self) -> list[str]:
        """Return the target Python version and platform as options of uv."""
        return ["--python-version", _PYTHON, *(["--python-platform", self.platform] if self.platform else [])]

    def _tag(self, component: str) -> str:
        digest, dockerfile = hashlib.sha256(), self.source / COMPONENTS[component] / "Dockerfile"
        files = [dockerfile, self.source / "requirements.lock", self.source / "pyproject.toml", Path(__file__)]
        for package in (*_SOURCES, *_PACKAGES[component]):
            files += _files(self.source / package)
        for file in files:
            name = file.relative_to(self.source) if file.is_relative_to(self.source) else Path(file.name)
            digest.update(str(name).encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()[:16]

    def _is_pushed(self, component: str, tag: str) -> bool:
        url = f"http://{self.registry}/v2/maleo/{component}/manifests/{tag}"
        accept = "application/vnd.oci.image.manifest.v1+json"
        request = urllib.request.Request(url, method="HEAD", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=5):  # noqa: S310 - our registry
                return True
        except urllib.error.HTTPError:
            return False

    def _has_image(self, reference: str) -> bool:
        done = subprocess.run(self._command("inspect", "--type", "image", reference), capture_output=True, check=False)
        return done.returncode == 0

    def _drop_older(self, component: str, reference: str) -> None:
        """Remove older images of the component from the local storage, where each takes half a gigabyte.

        Layers shared with `reference` stay, and the registry keeps the images that were pushed.
        """
        listed = _run(self._command("images", "--noheading", "--format", "{{.Name}}:{{.Tag}}")).split()
        prefix = f"{self.registry}/maleo/{component}:"
        older = [name for name in listed if name.startswith(prefix) and name != reference]
        if older:  # not checked: an image in use cannot be removed
            subprocess.run(self._command("rmi", *older), capture_output=True, check=False)

    def _push(self, reference: str) -> None:
        self._buildah("push", "--quiet", "--tls-verify=false", reference, f"docker://{reference}")

    def _buildah(self, verb: str, *arguments: str) -> None:
        options = {"build": ["--isolation", "chroot", "--layers", "--quiet"]}.get(verb, [])
        _run(self._command(verb, *options, *arguments))

    def _command(self, *arguments: str) -> list[str]:
        storage = self.cache / "buildah"
        driver = ["--storage-driver", "vfs"]
        return ["buildah", "--root", str(storage), "--runroot", str(storage / "run"), *driver, *arguments]


def _files(folder: Path) -> Iterable[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def _run(command: list[str]) -> str:
    environment = {**os.environ, "TMPDIR": os.environ.get("TMPDIR", "/var/tmp")}  # noqa: S108 - buildah's own default
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise BuildFailed(f"`{' '.join(command[:4])} ...` failed: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout
