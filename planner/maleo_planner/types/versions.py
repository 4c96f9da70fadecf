"""Version ranges of runtimes."""

from typing import Final, Literal

Fit = Literal["Inside", "Below", "Above", "Unknown"]
_Version = tuple[int, ...]
_ENDLESS: Final[_Version] = (1_000_000,)


def compare(installed: str, required: str) -> Fit:
    """Return whether an installed version lies in the required range.

    installed: `5.2.0`, a series `4.x`, `>=4.17` or empty (unknown); required: `>=1.17`, `<2`, `>=1.17,<2` or empty
    (any). A series that lies in the range only partly is Unknown, as is an empty installed version.
    """
    if not required:
        return "Inside"
    if not installed:
        return "Unknown"
    first, beyond = _span(installed)
    fits: set[Fit] = set()
    for bound in required.split(","):
        if bound.startswith(">="):
            least = _version(bound.removeprefix(">="))
            fits.add("Inside" if first >= least else "Below" if beyond <= least else "Unknown")
        else:
            end = _version(bound.removeprefix("<"))
            fits.add("Inside" if beyond <= end else "Above" if first >= end else "Unknown")
    return next(fit for fit in ("Below", "Above", "Unknown", "Inside") if fit in fits)


def _span(installed: str) -> tuple[_Version, _Version]:
    """Return the lowest version that may be installed, and the lowest version above all of them."""
    if installed.startswith(">="):
        return _version(installed.removeprefix(">=")), _ENDLESS
    if installed.endswith(".x"):
        *major, last = (int(part) for part in installed.removesuffix(".x").split("."))
        return (*major, last), (*major, last + 1)
    version = _version(installed)
    return version, (*version, 0)


def _version(text: str) -> _Version:
    """Return the parts of a version without trailing zeros: 1.17.0 equals 1.17."""
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
