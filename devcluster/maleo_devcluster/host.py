"""What this machine must have for a devcluster, and the settings it changes for as long as the cluster is up."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

# program -> Debian package
PROGRAMS: Final = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "busybox": "busybox-static",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "docker-registry": "docker-registry",
}
_PLUGINS: Final = (Path("/usr/lib/cni/ptp"), Path("/opt/cni/bin/ptp"))
_SETTINGS: Final = {"net.ipv4.ip_forward": "1", "fs.inotify.max_user_instances": "1024"}

Ask = Callable[[str], bool]


class Unsuitable(Exception):
    """This machine cannot run a devcluster; the message says what is missing and what to do."""


def check_machine() -> None:
    if sys.platform != "linux":
        raise Unsuitable("a devcluster needs Linux; elsewhere start Docker and Maleo uses kind")
    if os.geteuid() != 0:
        raise Unsuitable("a devcluster needs root (network namespaces, mounts): use sudo, or start Docker for kind")


def missing_packages() -> list[str]:
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not any(path.exists() for path in _PLUGINS):
        missing.append("containernetworking-plugins")
    return missing


def install_packages(packages: list[str], ask: Ask) -> None:
    """Install by apt after consent; Unsuitable when there is none, or no apt."""
    if not packages:
        return
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise Unsuitable(f"missing on this machine: {', '.join(packages)} (Debian names); install them and try again")
    if not ask(f"Install {', '.join(packages)} ({command})?"):
        raise Unsuitable(f"missing on this machine: {', '.join(packages)}; to install them: {command}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unsuitable(f"`apt-get {' '.join(arguments)}` failed: {done.stderr.strip()[-800:]}")


def change_settings(ask: Ask) -> dict[str, str]:
    """Set what nodes need; the former values come back, for `restore_settings`."""
    former = {name: _setting(name).read_text(encoding="ascii").strip() for name in _SETTINGS}
    wanted = {name: value for name, value in _SETTINGS.items() if int(former[name]) < int(value)}
    if wanted and not ask(f"Set {', '.join(f'{n}={v}' for n, v in wanted.items())} until `maleo cluster down`?"):
        raise Unsuitable("nodes cannot run without these settings; nothing was changed")
    _write(wanted)
    return {name: former[name] for name in wanted}


def restore_settings(former: Mapping[str, str]) -> None:
    _write(former)


def _write(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        _setting(name).write_text(value, encoding="ascii")


def _setting(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))
