"""Suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_MOST_MEANT: Final = 3
_MOST_LISTED: Final = 16


def find_close(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are spelled like `name`, the closest first, at most three."""
    names = {one.lower(): one for one in known}
    return [names[one] for one in get_close_matches(name.lower(), names, n=_MOST_MEANT)]


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean edge-1?` for close matches, else the known names if few; empty if there are none."""
    names = {one.lower(): one for one in known}
    if close := find_close(name, names.values()):
        return f"did you mean {' or '.join(filter(None, (', '.join(close[:-1]), close[-1])))}?"
    if len(names) > _MOST_LISTED:
        return f"none of the {len(names)} names is similar"
    return f"use one of {', '.join(names.values())}" if names else ""
