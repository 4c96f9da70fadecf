"""Suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_MAX_SUGGESTIONS: Final = 3
_MAX_LISTED: Final = 16


def find_close(name: str, candidates: Iterable[str]) -> list[str]:
    """Return the known names that are spelled like `name`, the closest first, at most three."""
    names = {candidate.lower(): candidate for candidate in candidates}
    return [names[candidate] for candidate in get_close_matches(name.lower(), names, n=_MAX_SUGGESTIONS)]


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Return `did you mean edge-1?` for close matches, else the known names if few; empty if there are none."""
    names = {candidate.lower(): candidate for candidate in candidates}
    if close := find_close(name, names.values()):
        return f"did you mean {' or '.join(filter(None, (', '.join(close[:-1]), close[-1])))}?"
    if len(names) > _MAX_LISTED:
        return f"none of the {len(names)} names is similar"
    return f"use one of {', '.join(names.values())}" if names else ""
