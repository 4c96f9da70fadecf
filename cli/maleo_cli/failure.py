"""How a command ends when it cannot do what was asked."""


class Failure(Exception):
    """`what` names what, where and why; `remedy` what to do. exit_code 1: not fine; 2: wrong use; 3: this
    machine lacks something."""

    def __init__(self, what: str, remedy: str = "", *, exit_code: int = 1) -> None:
        super().__init__(f"{what}\n  {remedy}" if remedy else what)
        self.exit_code = exit_code
