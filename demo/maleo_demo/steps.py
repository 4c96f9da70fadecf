"""The demo's progress on the terminal: one line a step, with what it is doing while it runs and its seconds after."""

import contextlib
import sys
import time
from collections.abc import Iterator


class Steps:
    """Collects the seconds of each phase for the report."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._terminal = sys.stdout.isatty()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator["Line"]:
        """Prints `✓ title  seconds  note`; on an error `✗`, and lets it pass."""
        line = Line()
        if self._terminal:
            print(f"  … {title}", end="", flush=True)
        start = time.monotonic()
        try:
            yield line
        except BaseException:
            self._end("✗", title, time.monotonic() - start, "")
            raise
        self.seconds[title] = round(time.monotonic() - start, 2)
        self._end("✓", title, self.seconds[title], line.note)

    def tell(self, text: str) -> None:
        """What a long step is doing now."""
        if self._terminal:
            print(f"\r\033[K  … {text}", end="", flush=True)
        else:
            print(f"    {text}", flush=True)

    def say(self, text: str) -> None:
        print(f"  · {text}", flush=True)

    def _end(self, mark: str, title: str, seconds: float, note: str) -> None:
        start = "\r\033[K" if self._terminal else ""
        print(f"{start}  {mark} {title:<28} {seconds:6.1f} s   {note}".rstrip(), flush=True)


class Line:
    """What a step wants to say in its line when it has ended."""

    note: str = ""
