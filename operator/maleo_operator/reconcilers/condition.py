"""Condition helpers: lookup, construction, and merging that avoids writes without new information."""

import re
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final, Literal

from maleo_api.meta import Condition
from maleo_api.timestamps import format_timestamp

Status = Literal["True", "False", "Unknown"]

_NUMBER: Final = re.compile(r"(?<![\w-])(?<!revision )(?<!block )[+-]?\d[\d.]*")
_MAX_MESSAGE: Final = 1024


def find_condition(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of a type, None if there is none."""
    return next((c for c in conditions if c.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Return True if the condition of a type exists and its status is True."""
    found = find_condition(conditions, kind)
    return found is not None and found.status == "True"


def make_condition(kind: str, status: Status, reason: str, message: str) -> Condition:
    """Return a condition without transition time and generation, which `merge_conditions` sets."""
    return Condition(type=kind, status=status, reason=reason, message=message[:_MAX_MESSAGE])


def merge_conditions(
    before: Sequence[Condition], desired: Iterable[Condition], *, generation: int, now: float
) -> list[Condition]:
    """Merge `desired` into `before`; types that are not in `desired` are kept.

    The transition time changes with the status only. A condition whose message differs only in its figures is kept
    unchanged, to avoid a write.
    """
    merged = {c.type: c for c in before}
    for new in desired:
        old = merged.get(new.type)
        if old is None or not _is_unchanged(old, new, generation):
            since = old.last_transition_time if old is not None and old.status == new.status else format_timestamp(now)
            merged[new.type] = new.model_copy(update={"last_transition_time": since, "observed_generation": generation})
    return list(merged.values())


def equal_except_numbers(old: str, new: str) -> bool:
    """Return True if two texts are equal up to figures; `edge-1`, `revision 2` and `block 3` are names."""
    return _NUMBER.sub("#", old) == _NUMBER.sub("#", new)


def _is_unchanged(old: Condition, new: Condition, generation: int) -> bool:
    same = (old.status, old.reason, old.observed_generation) == (new.status, new.reason, generation)
    return same and equal_except_numbers(old.message, new.message)


def age(now: float, at: float) -> float:
    """Return the seconds since a stored Unix time; infinity if it lies in the future.

    A time in the future was stored before the clock was set back. Its age is unknown, and infinity delays nothing.
    """
    return now - at if now >= at else inf
