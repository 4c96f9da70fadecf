"""Run a command in a clean copy of this checkout as a user without any rights, as in a container without privileges.

Usage, as root: `python tools/as_user.py COMMAND...`. Without root the command runs here, with the same restrictions.

The user has no capabilities and cannot gain any, and cannot create namespaces or mounts: the kernel refuses the calls.
Packages and the programs of Kubernetes come from caches that root has prepared. Exit code: that of the command; 1 if it
leaves a process behind.
"""

import ctypes
import errno
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = Path("/var/lib/maleo-user")
CACHE: Final = Path("/var/cache/maleo-user")
USER: Final = 61234  # an id without an account, as some container platforms assign it

_KEPT: Final = ("PIP_", "UV_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "GOPROXY", "GOSUMDB", "GOFLAGS")
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 24, 38
_LAST_CAPABILITY: Final = 63
_CLONE_NEWUSER: Final = 0x10000000
_NAMESPACES: Final = 0x7E020000  # all CLONE_NEW* flags of clone
_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS: Final = {
    "x86_64": {"unshare": 272, "setns": 308, "mount": 165, "pivot_root": 155, "chroot": 161, "clone": 56},
    "aarch64": {"unshare": 97, "setns": 268, "mount": 40, "pivot_root": 41, "chroot": 51, "clone": 220},
}
_CLONE3: Final = 435  # its flags are in memory, which a filter cannot read; the C library then uses clone
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def main() -> int:
    """Run the command of the command line; return the exit code."""
    if os.geteuid() != 0:
        restrict(None)
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the purpose of this program
    prepare()
    child = os.fork()
    if child == 0:
        restrict(USER)
        os.chdir(FOLDER / "maleo")
        os.execvpe(sys.argv[1], sys.argv[1:], make_environment())  # noqa: S606 - the purpose of this program
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = find_processes()
    for pid, name in left.items():
        print(f"as_user: left behind: {pid} {name}", file=sys.stderr)
        os.kill(pid, signal.SIGKILL)
    return code or bool(left)


def prepare() -> None:
    """Copy the files of this checkout that Git does not ignore, and the programs of Kubernetes, for the user."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    copy = FOLDER / "maleo"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")  # noqa: S603 - fixed
    for name in map(os.fsdecode, filter(None, names)):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
    programs = Path(os.environ.get("MALEO_CACHE", Path.home() / ".cache/maleo")) / "bin"
    if programs.exists():
        shutil.copytree(programs, CACHE / "maleo/bin", dirs_exist_ok=True)
    for folder in (FOLDER, CACHE):
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)


def make_environment() -> dict[str, str]:
    """Return the variables of the user: settings of package clients and of the tests, and folders of its own."""
    kept = {name: value for name, value in os.environ.items() if name.upper().startswith((*_KEPT, "MALEO_"))}
    own = {
        "HOME": str(FOLDER),
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "MALEO_CACHE": str(CACHE / "maleo"),
        "UV_CACHE_DIR": str(CACHE / "uv"),
        "PIP_CACHE_DIR": str(CACHE / "pip"),
    }
    return kept | own


def restrict(user: int | None) -> None:
    """Drop all rights of this process, and of what it starts, for good. Print which. user: id to become."""
    libc = ctypes.CDLL(None, use_errno=True)
    if user is not None:
        for capability in range(_LAST_CAPABILITY):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot set no_new_privs")
    _filter_calls(libc)
    if libc.unshare(_CLONE_NEWUSER) == 0:
        sys.exit("as_user: this process can still create user namespaces")
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    if any(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")):
        sys.exit("as_user: this process still has capabilities")
    refused = ", ".join(name for name in _CALLS[platform.machine()] if name != "clone")
    print(
        f"as_user: user {os.getuid()}, no capabilities (bounding set {status['CapBnd']}), no_new_privs; the kernel "
        f"refuses {refused}, and clone with namespaces",
        flush=True,
    )


def _filter_calls(libc: ctypes.CDLL) -> None:
    """Install a seccomp filter that refuses to create namespaces and mounts."""
    machine = platform.machine()
    refuse, no_such_call = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    calls = {number: refuse for name, number in _CALLS[machine].items() if name != "clone"} | {_CLONE3: no_such_call}
    program = [
        _statement(0x20, 4),  # load the architecture
        _jump(0x15, _AUDIT_ARCH[machine], 1, 0),
        _statement(0x06, refuse),  # calls of another architecture
        _statement(0x20, 0),  # load the number of the call
    ]
    for number, action in calls.items():
        program += [_jump(0x15, number, 0, 1), _statement(0x06, action)]
    program += [
        _jump(0x15, _CALLS[machine]["clone"], 0, 3),
        _statement(0x20, 16),  # load the low half of the first argument
        _jump(0x45, _NAMESPACES, 0, 1),
        _statement(0x06, refuse),
        _statement(0x06, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    if libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot install a seccomp filter")


def _statement(code: int, value: int) -> bytes:
    return struct.pack("HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def find_processes() -> dict[int, str]:
    """Return id -> command of the processes of the user."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if folder.stat().st_uid == USER and command:  # empty: it has ended, and its parent has yet to notice
                found[int(folder.name)] = command
        except OSError:
            continue  # it has ended
    return found


if __name__ == "__main__":
    sys.exit(main())
