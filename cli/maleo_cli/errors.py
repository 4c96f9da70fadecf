"""Error that ends a command with a message, a remedy and an exit code."""


class Failure(Exception):
    """Failure of a command.

    message: what failed, where and why. remedy: what to do about it. exit_code: 1 for a negative result, 2 for wrong
    usage, 3 if this machine lacks a prerequisite.
    """

    def __init__(self, message: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(f"{message}\n  {remedy}" if remedy else message)
        self.exit_code = exit_code
