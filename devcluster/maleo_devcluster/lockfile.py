"""Selection of entries of `requirements.lock`, with hashes, for the packages of one image."""

import re
from collections.abc import Iterable
from typing import Final

_ENTRY: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_SEPARATORS: Final = re.compile(r"[-_.]+")


class NotLocked(Exception):
    """A package is missing from the lock file in this version or with a hash: the lock file must be regenerated."""


def select(lock: str, pins: Iterable[str]) -> str:
    """Return the entries of `lock` for `pins` (`name==version`), with markers and hashes. Raise NotLocked."""
    entries: dict[tuple[str, str], str] = {}
    for block in re.split(r"^(?=\S)", lock, flags=re.MULTILINE):
        match = _ENTRY.match(block)
        if match is not None and "--hash=sha256:" in block:
            entries[_normal(match["name"]), match["version"]] = block
    chosen: list[str] = []
    for pin in pins:
        match = _ENTRY.match(pin)
        entry = entries.get((_normal(match["name"]), match["version"])) if match is not None else None
        if entry is None:
            raise NotLocked(f"{pin}: not in requirements.lock with a hash: regenerate the lock file")
        chosen.append(entry)
    return "".join(chosen)


def _normal(name: str) -> str:
    """Normalize a package name (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower()
