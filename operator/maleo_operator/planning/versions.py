"""Versions of runtimes: whether what is installed lies in the range that is required."""

from typing import Final, Literal

Fit = Literal["Inside", "Below", "Above", "Unknown"]
_Version = tuple[int, ...]
_ENDLESS: Final[_Version] = (1_000_000,)


def compare(installed: str, required: str) -> Fit:
    """`installed`: `5.2.0`, a series `4.x`, `>=4.17` or empty; `required`: `>=1.17`, `<2`, `>=1.17,<2` or empty (any).

    A series that lies in the range in part only is Unknown, as is what states no version.
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
    """The first version that may be there, and the first that is beyond all of them."""
    if installed.startswith(">="):
        return _version(installed.removeprefix(">=")), _ENDLESS
    if installed.endswith(".x"):
        *major, last = (int(part) for part in installed.removesuffix(".x").split("."))
        return (*major, last), (*major, last + 1)
    version = _version(installed)
    return version, (*version, 0)


def _version(text: str) -> _Version:
    """Without zeros at its end: 1.17.0 is 1.17."""
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
