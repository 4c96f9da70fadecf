"""The entries of `requirements.lock`, with their hashes, for the packages that one image needs."""

import re
from collections.abc import Iterable
from typing import Final

_ENTRY: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_SEPARATORS: Final = re.compile(r"[-_.]+")


class NotLocked(Exception):
    """A package is not in the lock file in this version, or without a hash: the lock must be made anew."""


def select(lock: str, pins: Iterable[str]) -> str:
    """Return the entries of `lock` for `pins` (`name==version`), each with its marker and hashes. Raises NotLocked."""
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
            raise NotLocked(f"{pin} is not in requirements.lock with a hash: make the lock file anew")
        chosen.append(entry)
    return "".join(chosen)


def _normal(name: str) -> str:
    """As package indexes compare names (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower()
