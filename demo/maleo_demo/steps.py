"""Progress output of the demo: one line per step, with its current action while it runs and its duration after."""

import contextlib
import sys
import time
from collections.abc import Iterator


class Steps:
    """Progress printer; collects the duration of each step for the report. began_at: Unix time of its creation."""

    def __init__(self) -> None:
        self.began_at = time.time()
        self.seconds: dict[str, float] = {}
        self._terminal = sys.stdout.isatty()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator["Line"]:
        """Time a step and print `✓ title  seconds  note`, or `✗` if it raises; the exception is propagated."""
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

    def update(self, text: str) -> None:
        """Print the current action of a long step."""
        if self._terminal:
            print(f"\r\033[K  … {text}", end="", flush=True)
        else:
            print(f"    {text}", flush=True)

    def say(self, text: str) -> None:
        """Print a line of information between two steps."""
        print(f"  · {text}", flush=True)

    def _end(self, mark: str, title: str, seconds: float, note: str) -> None:
        start = "\r\033[K" if self._terminal else ""
        print(f"{start}  {mark} {title:<28} {seconds:6.1f} s   {note}".rstrip(), flush=True)


class Line:
    """Note of a step, printed in its line when it has ended."""

    note: str = ""
