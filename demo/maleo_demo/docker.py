"""Docker operations of the kind provider: engine checks, images of Maleo, and a registry on the nodes' network.

Containers and images created here have the label `maleo.dev/demo`, by which they are found and removed.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Final

from maleo_demo.programs import Unavailable, run, succeeds
from maleo_devcluster.images import COMPONENTS, Builder, Say

NETWORK: Final = os.environ.get("KIND_EXPERIMENTAL_DOCKER_NETWORK") or "kind"
"""Name of the Docker network that kind puts its nodes on."""

_LABEL: Final = "maleo.dev/demo=true"
_BASE: Final = "python:3.11-slim"
_REGISTRY: Final = "maleo-registry"
_REGISTRY_IMAGE: Final = "registry:2.8.3"
_PLATFORMS: Final = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
_PULL_S: Final = 300.0
_BUILD_S: Final = 600.0
_REMOVE_S: Final = 300.0


def check() -> None:
    """Raise Unavailable unless a Docker engine answers. Podman's `docker` command cannot run kind nodes of Docker."""
    if shutil.which("docker") is None:
        raise Unavailable("docker is not on PATH: install Docker")
    output = run("docker", "version", "--format", "{{json .Server}}")
    server = json.loads(output) or {}
    names = {part.get("Name", "") for part in server.get("Components") or []}
    if any("podman" in name.lower() for name in names):
        raise Unavailable("`docker` is Podman, but the demo requires a Docker engine: set DOCKER_HOST to one")


def find_platform() -> str:
    """Return the engine's platform in uv's notation: images are built for the engine, possibly another machine.

    Raise Unavailable for architectures without images.
    """
    architecture = run("docker", "version", "--format", "{{.Server.Arch}}").strip()
    if architecture not in _PLATFORMS:
        raise Unavailable(f"Docker runs on {architecture}, which Maleo has no images for: use amd64 or arm64")
    return _PLATFORMS[architecture]


def build_images(source: Path, say: Say) -> dict[str, str]:
    """Build the images that are missing in the engine; return operator, agent, slot -> image reference."""
    builder = Builder(source=source, cache=Path("build/images"), registry="", say=say, platform=find_platform())
    references, base = {}, ""
    for component in COMPONENTS:
        context, tag = builder.prepare(component)
        reference = references[component] = f"maleo/{component}:{tag}"
        if succeeds("docker", "image", "inspect", reference):
            continue
        base = base or _find_base(say)
        say(f"image {component}: docker build")
        options = ("--quiet", "--build-arg", f"BASE={base}", "--label", _LABEL, "--tag", reference)
        run(*_build(), *options, str(context), timeout_s=_BUILD_S)
    return references


def _find_base(say: Say) -> str:
    """Return the base image, pulled if missing, by digest, or by tag if it was built on this engine and has none."""
    if not succeeds("docker", "image", "inspect", _BASE):
        run("docker", "pull", "--quiet", _BASE, timeout_s=_PULL_S)
    digests = run("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", _BASE)
    base = next(iter(json.loads(digests) or []), _BASE)
    say(f"base image: {base}{'' if '@' in base else ' (built locally, without a digest)'}")
    return str(base)


def _build() -> tuple[str, ...]:
    """Return the build command. BuildKit's default attestations create an image index, which `kind load` rejects."""
    if succeeds("docker", "buildx", "version") and os.environ.get("DOCKER_BUILDKIT") != "0":
        return "docker", "buildx", "build", "--load", "--provenance=false", "--sbom=false"
    return "docker", "build"


def start_registry(say: Say) -> tuple[str, str]:
    """Start the registry unless it runs; return its `host:port` for this machine, and for the nodes.

    Nodes resolve its container name by Docker's DNS: its address may change when the engine restarts. Raise Unavailable
    if another container has this name.
    """
    listing = ("docker", "ps", "--all", "--filter", f"name=^{_REGISTRY}$", "--format", "{{.State}} {{.Labels}}")
    existing = run(*listing).split()
    if existing and _LABEL not in existing[-1].split(","):
        raise Unavailable(f"container {_REGISTRY} exists but was not created by the demo: rename or remove it")
    if not existing:
        say("starting the registry")
        options = ["--detach", "--name", _REGISTRY, "--network", NETWORK, "--label", _LABEL, "--restart=always"]
        run("docker", "run", *options, "--publish", "127.0.0.1::5000", _REGISTRY_IMAGE, timeout_s=_PULL_S)
    elif existing[0] != "running":
        run("docker", "start", _REGISTRY)
    published = run("docker", "port", _REGISTRY, "5000/tcp").split()
    return published[0], f"{_REGISTRY}:5000"


def address_of(container: str) -> str:
    """Return the container's IPv4 address on kind's network."""
    query = f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}'
    return run("docker", "inspect", "--format", query, container).strip()


def find_id(container: str) -> str:
    """Return the container's unique id; empty if there is no container of this name."""
    return run("docker", "ps", "--all", "--no-trunc", "--quiet", "--filter", f"name=^{container}$").strip()


def image_of(container: str) -> str:
    """Return the image name that the container was created with."""
    return run("docker", "inspect", "--format", "{{.Config.Image}}", container).strip()


def find_nodes(cluster: str) -> dict[str, bool]:
    """Return container name -> True if it runs, for the nodes of the kind cluster."""
    label = f"label=io.x-k8s.kind.cluster={cluster}"
    listed = run("docker", "ps", "--all", "--filter", label, "--format", "{{.Names}} {{.State}}")
    return {name: state == "running" for name, state in (line.split() for line in listed.splitlines())}


def remove_all() -> None:
    """Remove the registry with its volume, and all images built here."""
    containers = run("docker", "ps", "--all", "--quiet", "--filter", f"label={_LABEL}").split()
    if containers:
        run("docker", "rm", "--force", "--volumes", *containers, timeout_s=_REMOVE_S)
    images = run("docker", "image", "ls", "--quiet", "--filter", f"label={_LABEL}").split()
    if images:
        run("docker", "image", "rm", "--force", *dict.fromkeys(images), timeout_s=_REMOVE_S)
