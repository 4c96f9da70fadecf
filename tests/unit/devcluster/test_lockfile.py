"""An image's packages are those of the lock file, by their hashes."""

import pytest

from maleo_devcluster.lockfile import NotLocked, select
from support.paths import ROOT

_LOCK = """\
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via maleo
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:cc
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:dd
Typing_Extensions==4.1 \\
    --hash=sha256:ee
bare==1.0
    # via nobody
"""


def test_select__keeps_entries_with_marker_and_hashes() -> None:
    chosen = select(_LOCK, ["numpy==2.4.6", "aiohttp==3.14.5 ; sys_platform == 'linux'"])
    assert chosen.splitlines() == [
        "numpy==2.4.6 ; python_full_version < '3.12' \\",
        "    --hash=sha256:cc",
        "aiohttp==3.14.5 \\",
        "    --hash=sha256:aa \\",
        "    --hash=sha256:bb",
        "    # via maleo",
    ]


def test_select__normalizes_package_names() -> None:
    assert select(_LOCK, ["typing-extensions==4.1"]).startswith("Typing_Extensions==4.1")


@pytest.mark.parametrize("pin", ["aiohttp==3.14.6", "unknown==1", "bare==1.0", "-e .", "aiohttp>=3"])
def test_select__refuses_what_is_not_locked_by_a_hash(pin: str) -> None:
    with pytest.raises(NotLocked, match="regenerate the lock file"):
        select(_LOCK, [pin])


def test_lock_file_of_the_project__has_a_hash_for_every_package() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = [line.rstrip(" \\") for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#"))]
    assert len(pins) > 50
    assert select(lock, pins).count("--hash=sha256:") == lock.count("--hash=sha256:")
