"""Retry delays of missions that could not be placed: short after relevant changes, else exponential back-off."""

from typing import Final
from zlib import crc32

_FIRST_S: Final = 10.0
_MAX_S: Final = 300.0
_JITTER: Final = 0.2
_CHANGE_DELAY_S: Final = (1.0, 10.0)


def retry_delay(key: str, attempts: int) -> float:
    """Return the seconds from the last plan to a retry without relevant changes, after `attempts` failures in a row.

    Planning is deterministic, so that unchanged inputs give the same result: these retries are a safety net and may be
    rare. The jitter of up to 20 % is derived from the mission's key and `attempts`, which spreads missions that failed
    together and keeps the function pure.
    """
    base = min(_FIRST_S * 2.0 ** max(0, min(attempts, 16) - 1), _MAX_S)
    fraction = crc32(f"{key} {attempts}".encode()) / 2**32
    return base * (1 + _JITTER * fraction)


def change_delay(attempts: int) -> float:
    """Return the minimum seconds between two plans triggered by relevant changes, after `attempts` failures in a row.

    Repeated changes, such as a flapping Device, must not keep the planner busy with infeasible missions.
    """
    return min(_CHANGE_DELAY_S[0] * 2.0 ** max(0, min(attempts, 16) - 1), _CHANGE_DELAY_S[1])
