"""Deduplication of the frames of one child: sequence numbers start at 1 with each process start."""


class Boot:
    """Sequence filter that accepts each frame once, even if it is sent again or on another connection."""

    def __init__(self) -> None:
        self._boot = ""
        self._newest = 0

    def greet(self, boot: str) -> None:
        """Process a Hello: a new boot ID restarts the sequence at 1."""
        if boot != self._boot:
            self._boot, self._newest = boot, 0

    def is_new(self, sequence: int) -> bool:
        """Return True if no frame with this or a higher number has been accepted, and accept it."""
        if sequence <= self._newest:
            return False
        self._newest = sequence
        return True
