"""When a mission that could not be placed is planned again: soon after news, else with exponential back-off."""

from typing import Final
from zlib import crc32

_FIRST_S: Final = 10.0
_LONGEST_S: Final = 300.0
_JITTER: Final = 0.2
_NEWS_S: Final = (1.0, 10.0)


def delay(key: str, attempts: int) -> float:
    """Return the seconds from the last planning to the next one without news, after `attempts` failed plans in a row.

    Planning is deterministic: the same world gives the same answer, so this is a safety net and may become slow. The
    jitter of up to 20 % is derived from the mission's key, so that missions that failed together spread out and the
    decision stays a pure function.
    """
    base = min(_FIRST_S * 2.0 ** max(0, min(attempts, 16) - 1), _LONGEST_S)
    share = crc32(f"{key} {attempts}".encode()) / 2**32
    return base * (1 + _JITTER * share)


def news_delay(attempts: int) -> float:
    """Return the least seconds between two plans that are both caused by news.

    News that keep coming, such as a Device that flaps, must not keep the planner busy with hopeless missions.
    """
    return min(_NEWS_S[0] * 2.0 ** max(0, min(attempts, 16) - 1), _NEWS_S[1])
