"""Exit codes, and the error that ends a command with a message, a remedy and an exit code."""

from typing import Final

EXIT_CODES: Final = {
    0: "Success.",
    1: "A negative result, such as an infeasible mission, or a failure of the command.",
    2: "Wrong usage: an unknown option, or a file, option or manifest that is not valid.",
    3: "This machine lacks a prerequisite of `maleo cluster`.",
}
"""Exit code -> meaning, as in docs/reference/cli.md. The help of a command says what a negative result is."""


class Failure(Exception):
    """Failure of a command.

    message: what failed, where and why. remedy: what to do about it. exit_code: 1 for a negative result, 2 for wrong
    usage, 3 if this machine lacks a prerequisite.
    """

    def __init__(self, message: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(f"{message}\n  {remedy}" if remedy else message)
        self.exit_code = exit_code
