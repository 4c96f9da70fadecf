"""Requirements of a devcluster on the machine: errors with a remedy, consent before changes, and their reversal."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from maleo_cli.commands import cluster as command
from maleo_cli.errors import Failure
from maleo_cli.main import app
from maleo_devcluster import host
from maleo_devcluster.host import Unsuitable


class Asked:
    """Consent prompt that answers every question with `consent` and records it."""

    def __init__(self, *, consent: bool) -> None:
        self.consent = consent
        self.questions: list[str] = []

    def __call__(self, question: str) -> bool:
        self.questions.append(question)
        return self.consent


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fake /proc/sys that needs two changes and has no kernel.keys."""
    there = {
        "net.ipv4.ip_forward": "0", "fs.inotify.max_user_instances": "8192", "vm.overcommit_memory": "0",
        "vm.panic_on_oom": "0", "kernel.panic": "10", "kernel.panic_on_oops": "1",
    }  # fmt: skip
    for name, value in there.items():
        (tmp_path / name).write_text(f"{value}\n", encoding="ascii")
    monkeypatch.setattr(host, "_setting", lambda name: tmp_path / name)
    return tmp_path


def _read(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="ascii").strip() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("system", "user", "words"),
    [
        ("darwin", 0, "requires Linux: .*start Docker for kind"),
        ("linux", 1000, r"requires root .*: use sudo, start Docker for kind, or use process nodes"),
    ],
)
@pytest.mark.parametrize("arguments", [["up", "--yes"], ["down"]])
def test_unsuitable_machine__is_rejected_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, system: str, user: int, words: str, arguments: list[str]
) -> None:
    monkeypatch.setattr(host.sys, "platform", system)
    monkeypatch.setattr(host.os, "geteuid", lambda: user)
    failure = CliRunner().invoke(app, ["cluster", *arguments]).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == command.UNSUITABLE
    with pytest.raises(Failure, match=words):
        raise failure


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        (0, "root lacks CAP_NET_ADMIN, CAP_SYS_ADMIN here, as in a container without privileges"),
        (1 << 12, "root lacks CAP_SYS_ADMIN here, as in a container without privileges"),
        (1 << 12 | 1 << 21, ""),
    ],
)
def test_root_without_the_rights_of_root__is_an_obstacle(
    monkeypatch: pytest.MonkeyPatch, capabilities: int, words: str
) -> None:
    monkeypatch.setattr(host.sys, "platform", "linux")
    monkeypatch.setattr(host.os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "_read_capabilities", lambda: capabilities)
    assert host.find_obstacle() == words


def test_settings__are_changed_with_consent_and_restored(settings: Path) -> None:
    before, asked = _read(settings), Asked(consent=True)
    former = host.change_settings(asked)
    assert asked.questions == ["Set net.ipv4.ip_forward=1, vm.overcommit_memory=1 until `maleo cluster down`?"]
    assert former == {"net.ipv4.ip_forward": "0", "vm.overcommit_memory": "0"}
    assert _read(settings) == before | {"net.ipv4.ip_forward": "1", "vm.overcommit_memory": "1"}
    host.restore_settings(former)
    assert _read(settings) == before


def test_settings__are_unchanged_without_consent(settings: Path) -> None:
    before = _read(settings)
    with pytest.raises(Unsuitable, match=r"_memory=1: allow it with --yes or MALEO_YES=1; nothing was changed"):
        host.change_settings(Asked(consent=False))
    assert _read(settings) == before


def test_settings__that_are_already_set_need_no_consent(settings: Path) -> None:
    host.change_settings(Asked(consent=True))
    asked = Asked(consent=False)
    assert host.change_settings(asked) == {}
    assert asked.questions == []


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder in PATH, with an apt-get that records its arguments."""
    monkeypatch.setenv("PATH", str(tmp_path))
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n', encoding="utf-8")
    apt.chmod(apt.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def test_packages__are_installed_with_consent_only(path: Path) -> None:
    assert "containerd" in host.missing_packages()
    asked = Asked(consent=False)
    with pytest.raises(Unsuitable, match="install them with: apt-get install --no-install-recommends runc iptables"):
        host.install_packages(["runc", "iptables"], asked)
    assert asked.questions == ["Install runc, iptables (apt-get install --no-install-recommends runc iptables)?"]
    assert not (path / "calls").exists()
    host.install_packages(["runc", "iptables"], Asked(consent=True))
    calls = (path / "calls").read_text(encoding="utf-8").splitlines()
    assert calls == ["update -q", "install -qy --no-install-recommends runc iptables"]


def test_packages__of_another_distribution_are_named(path: Path) -> None:
    (path / "apt-get").unlink()
    asked = Asked(consent=True)
    with pytest.raises(Unsuitable, match=r"missing packages: runc \(Debian names\)"):
        host.install_packages(["runc"], asked)
    assert asked.questions == []


def test_mount_points__are_removed_unless_in_use(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    wanted = [str(tmp_path / "var/lib/kubelet"), str(tmp_path / "etc/cni/net.d")]
    made = host.make_mount_points(wanted)
    assert host.make_mount_points(wanted) == []
    (tmp_path / "etc/cni/net.d/of-another.conf").touch()
    host.remove_mount_points(made)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "etc",
        "etc/cni",
        "etc/cni/net.d",
        "etc/cni/net.d/of-another.conf",
        "var",
    ]


@pytest.mark.parametrize(
    ("given", "option", "consent"), [("1", False, True), ("", True, True), ("", False, False), ("0", False, False)]
)
def test_consent__without_a_terminal_is_the_option_or_the_variable(
    monkeypatch: pytest.MonkeyPatch, given: str, option: bool, consent: bool
) -> None:
    monkeypatch.setenv("MALEO_YES", given)
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: False, raising=False)
    assert command.consent_prompt(yes=option)("Install?") is consent
