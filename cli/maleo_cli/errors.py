"""Error that ends a command with a message, a remedy and an exit code."""


class Failure(Exception):
    """Failure of a command.

    what: what failed, where and why. remedy: what to do about it. exit_code: 1 for a negative result, 2 for wrong
    usage, 3 if this machine lacks a prerequisite.
    """

    def __init__(self, what: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(f"{what}\n  {remedy}" if remedy else what)
        self.exit_code = exit_code
