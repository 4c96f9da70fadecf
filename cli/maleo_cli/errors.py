"""Exit codes, and the error that ends a command with a message, a remedy and an exit code."""

import sys
from typing import Final

EXIT_CODES: Final = {
    0: "Success.",
    1: "A negative result, such as an infeasible mission, or a failure of the command.",
    2: "Wrong usage: an unknown option, or a file, option or manifest that is not valid.",
    3: "A prerequisite is missing: a Python package of an extra, or what `maleo cluster` requires of this machine.",
}
"""Exit code -> meaning, as in docs/reference/cli.md. The help of a command says what a negative result is."""

_DISTRIBUTION: Final = "maleo-control-plane"


class Failure(Exception):
    """Failure of a command.

    message: what failed, where and why. remedy: what to do about it. exit_code: 1 for a negative result, 2 for wrong
    usage, 3 if this machine lacks a prerequisite.
    """

    def __init__(self, message: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(f"{message}\n  {remedy}" if remedy else message)
        self.exit_code = exit_code


def lacks_packages(command: str, error: ModuleNotFoundError, *, extra: str) -> Failure:
    """Return the Failure of a command whose packages are not installed; re-raise `error` if it names a module of Maleo.

    extra: extra of the distribution that contains the packages.
    """
    if error.name is None or error.name.startswith("maleo_"):
        raise error
    remedy = f"install the extra `{extra}`: pip install '{_DISTRIBUTION}[{extra}]'"
    return Failure(f"{command} requires the Python package {error.name}, which is not installed", remedy, exit_code=3)


def report(failure: Failure) -> int:
    """Print a failure to standard error; return its exit code."""
    for line in str(failure).splitlines():  # lines with remedies are indented
        print(line if line.startswith(" ") else f"maleo: {line}", file=sys.stderr)
    return failure.exit_code
