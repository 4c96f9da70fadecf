"""Which frames of one child are new: they count from 1 with each of its starts, and may come twice."""


class Boot:
    """A frame that is sent again, on this connection or another, counts once."""

    def __init__(self) -> None:
        self._boot = ""
        self._newest = 0

    def greet(self, boot: str) -> None:
        """Hear a Hello: after a start of its own the child counts from 1."""
        if boot != self._boot:
            self._boot, self._newest = boot, 0

    def is_new(self, sequence: int) -> bool:
        """Return whether a frame of this number has not been taken yet, and take it."""
        if sequence <= self._newest:
            return False
        self._newest = sequence
        return True
