"""Host prerequisites of a devcluster, and the sysctls that are changed while the cluster is up."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN"}  # linux/capability.h
_PLUGINS: Final = (Path("/usr/lib/cni/ptp"), Path("/opt/cni/bin/ptp"))
_MIN_SETTINGS: Final = {"net.ipv4.ip_forward": "1", "fs.inotify.max_user_instances": "1024"}
# The kubelet sets these sysctls of the host when it starts, and never restores them.
_KUBELET_SETTINGS: Final = {
    "vm.overcommit_memory": "1",
    "vm.panic_on_oom": "0",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "kernel.keys.root_maxkeys": "1000000",
    "kernel.keys.root_maxbytes": "25000000",
}
# Each node mounts its own folders here; on the host they stay empty.
MOUNT_POINTS: Final = (
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/pods",
    "/var/log/containers",
    "/etc/cni/net.d",
    "/var/lib/cni",
    "/var/lib/maleo",
)

_MIN_TMPFS_MEMORY: Final = 12 * 1024**3  # four nodes with Maleo use 1.5 GiB of files and 1.5 GiB of processes

Ask = Callable[[str], bool]


class Unsuitable(Exception):
    """This machine cannot run a devcluster; the message says what is missing and what to do about it."""


def check_machine() -> None:
    """Raise Unsuitable unless this is Linux and the user is root with the rights of root."""
    if obstacle := find_obstacle():
        raise Unsuitable(f"{obstacle}: use sudo, start Docker for kind, or use process nodes (make demo)")


def find_obstacle() -> str:
    """Return why this machine cannot run a devcluster, empty if it can."""
    if sys.platform != "linux":
        return "a devcluster requires Linux"
    if os.geteuid() != 0:
        return "a devcluster requires root (network namespaces, mounts)"
    missing = [name for bit, name in _CAPABILITIES.items() if not _read_capabilities() >> bit & 1]
    return f"root lacks {', '.join(missing)} here, as in a container without privileges" if missing else ""


def _read_capabilities() -> int:
    """Return the effective capabilities of this process as a set of bits."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


def missing_packages() -> list[str]:
    """Return the Debian packages of the required programs that are not installed."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not any(path.exists() for path in _PLUGINS):
        missing.append("containernetworking-plugins")
    return missing


def install_packages(packages: list[str], ask: Ask) -> None:
    """Install Debian packages by apt after consent. Raise Unsuitable without consent or without apt."""
    if not packages:
        return
    command = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise Unsuitable(f"missing packages: {', '.join(packages)} (Debian names); install them and try again")
    if not ask(f"Install {', '.join(packages)} ({command})?"):
        raise Unsuitable(f"missing packages: {', '.join(packages)}; install them with: {command}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-qy", "--no-install-recommends", *packages]):
        done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unsuitable(f"`apt-get {' '.join(arguments)}` failed: {done.stderr.strip()[-800:]}")


def change_settings(ask: Ask) -> dict[str, str]:
    """Set the sysctls that nodes need, after consent; return the former values for `restore_settings`.

    Raise Unsuitable without consent.
    """
    names = [name for name in (*_MIN_SETTINGS, *_KUBELET_SETTINGS) if _setting(name).exists()]
    former = {name: _setting(name).read_text(encoding="ascii").strip() for name in names}
    changes = {
        name: value for name, value in _MIN_SETTINGS.items() if name in former and int(former[name]) < int(value)
    }
    changes |= {name: value for name, value in _KUBELET_SETTINGS.items() if name in former and former[name] != value}
    settings = ", ".join(f"{name}={value}" for name, value in changes.items())
    if changes and not ask(f"Set {settings} until `maleo cluster down`?"):
        raise Unsuitable(f"nodes require {settings}: allow it with --yes or MALEO_YES=1; nothing was changed")
    _write(changes)
    return {name: former[name] for name in changes}


def restore_settings(former: Mapping[str, str]) -> None:
    """Set sysctls back to the values that `change_settings` returned."""
    _write(former)


def make_mount_points(folders: Iterable[str] = MOUNT_POINTS) -> list[str]:
    """Create the mount points; return the folders created, parents first, for `remove_mount_points`."""
    created = []
    for folder in folders:
        missing = [path for path in (Path(folder), *Path(folder).parents) if not path.exists()]
        Path(folder).mkdir(parents=True, exist_ok=True)
        created += [str(path) for path in reversed(missing)]
    return created


def remove_mount_points(created: Sequence[str]) -> None:
    """Remove the mount points that `make_mount_points` created, except for those that are not empty."""
    for folder in reversed(created):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def mount_tmpfs(folder: Path) -> None:
    """Create `folder`, on a tmpfs if there is enough memory.

    Nodes unpack many small files, which are removed with the cluster and need not be written to disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    available = _available_memory()
    if available >= _MIN_TMPFS_MEMORY:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={available // 2},mode=0700", "tmpfs", folder], check=True)


def unmount(folder: Path) -> None:
    """Unmount `folder`; do nothing if it is not a mount point."""
    subprocess.run(["umount", "--lazy", folder], capture_output=True, check=False)


def _available_memory() -> int:
    """Return MemAvailable in bytes."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _write(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        _setting(name).write_text(value, encoding="ascii")


def _setting(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))
