"""Subprocess helpers for the programs of providers (kind, docker, kubectl), with timeouts."""

import subprocess
from typing import Final

_TIMEOUT_S: Final = 60.0


class Unavailable(Exception):
    """The cluster cannot do what was requested; the message says what failed, in which command, and what to do."""


def run(*command: str, timeout_s: float = _TIMEOUT_S, stdin: str | None = None) -> str:
    """Return the output of the command. Raise Unavailable if it fails, is missing, or exceeds `timeout_s` seconds."""
    shown = f"`{' '.join(command)}`"
    try:
        done = subprocess.run(  # noqa: S603 - programs of the cluster, without a shell
            command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{shown} did not finish within {timeout_s:.0f} s") from error
    except OSError as error:
        raise Unavailable(f"{shown} could not be started: {error.strerror}") from error
    if done.returncode != 0:
        raise Unavailable(f"{shown} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def succeeds(*command: str, timeout_s: float = _TIMEOUT_S) -> bool:
    """Return True if the command succeeds in time: for queries, and for clean-up of what may not exist."""
    try:
        run(*command, timeout_s=timeout_s)
    except Unavailable:
        return False
    return True
