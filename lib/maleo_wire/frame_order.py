"""Deduplication of the frames of one client: sequence numbers start at 1 with each process start."""


class SequenceFilter:
    """Sequence filter that accepts each frame once, even if it is sent again or on another connection."""

    def __init__(self) -> None:
        self._boot_id = ""
        self._last_sequence = 0

    def on_hello(self, boot_id: str) -> None:
        """Process a Hello: a new boot ID restarts the sequence at 1."""
        if boot_id != self._boot_id:
            self._boot_id, self._last_sequence = boot_id, 0

    def accept(self, sequence: int) -> bool:
        """Return True if no frame with this or a higher number has been accepted, and accept it."""
        if sequence <= self._last_sequence:
            return False
        self._last_sequence = sequence
        return True
