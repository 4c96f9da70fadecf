"""Version ranges of runtimes."""

from typing import Final, Literal

VersionMatch = Literal["Inside", "Below", "Above", "Unknown"]
_Version = tuple[int, ...]
_UNBOUNDED: Final[_Version] = (1_000_000,)


def match_version(installed: str, required: str) -> VersionMatch:
    """Compare an installed version with a required range.

    Args:
        installed: `5.2.0`, a series `4.x`, `>=4.17` or empty (unknown).
        required: `>=1.17`, `<2`, `>=1.17,<2` or empty (any).

    Returns:
        Unknown for an empty installed version and for a series that lies in the range only partly.
    """
    if not required:
        return "Inside"
    if not installed:
        return "Unknown"
    first, next_version = _version_interval(installed)
    matches: set[VersionMatch] = set()
    for bound in required.split(","):
        if bound.startswith(">="):
            lowest = _version(bound.removeprefix(">="))
            matches.add("Inside" if first >= lowest else "Below" if next_version <= lowest else "Unknown")
        else:
            end = _version(bound.removeprefix("<"))
            matches.add("Inside" if next_version <= end else "Above" if first >= end else "Unknown")
    return next(match for match in ("Below", "Above", "Unknown", "Inside") if match in matches)


def _version_interval(installed: str) -> tuple[_Version, _Version]:
    """Return the half-open interval of versions that may be installed."""
    if installed.startswith(">="):
        return _version(installed.removeprefix(">=")), _UNBOUNDED
    if installed.endswith(".x"):
        *major, last = (int(part) for part in installed.removesuffix(".x").split("."))
        return (*major, last), (*major, last + 1)
    version = _version(installed)
    return version, (*version, 0)


def _version(text: str) -> _Version:
    """Parse a version and drop trailing zeros, so that 1.17.0 equals 1.17."""
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
