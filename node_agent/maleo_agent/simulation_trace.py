"""Scripted behaviour of a simulated device over time: capacity, temperature and battery. Pure."""

import json
import math
import reprlib
from dataclasses import dataclass
from typing import Any, Final

ANNOTATION: Final = "maleo.dev/trace"
_MAX_STEPS: Final = 1000


class InvalidTrace(Exception):
    """The annotation is not a valid trace; the message names the step and field."""


@dataclass(frozen=True, slots=True)
class Step:
    """Values from `at` seconds after the trace was first seen; None = not set."""

    at: float
    capacity: float | None = None  # 0..1 of the normal speed
    temperature_c: float | None = None
    battery: float | None = None  # 0..1


@dataclass(frozen=True, slots=True)
class Trace:
    """Steps in ascending order of their time; without steps nothing is simulated."""

    steps: tuple[Step, ...] = ()

    def at(self, seconds: float) -> Step:
        """Return the step that applies at `seconds`, without values before the first step."""
        started = [step for step in self.steps if step.at <= seconds]
        return started[-1] if started else Step(at=0.0)


def parse(text: str) -> Trace:
    """Parse a JSON list of {at, capacity, temperature, battery} in ascending order of `at`. Raise InvalidTrace."""
    if not text:
        return Trace()
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter for deep nesting
        raise InvalidTrace(f"{ANNOTATION}: invalid JSON: {error}") from error
    if not isinstance(entries, list) or len(entries) > _MAX_STEPS:
        raise InvalidTrace(f"{ANNOTATION}: must be a list of at most {_MAX_STEPS} steps")
    steps = tuple(_parse_step(entry, number) for number, entry in enumerate(entries))
    if list(steps) != sorted(steps, key=lambda step: step.at):
        raise InvalidTrace(f"{ANNOTATION}: `at` must not decrease from step to step")
    return Trace(steps)


def _parse_step(entry: Any, number: int) -> Step:
    if not isinstance(entry, dict) or not set(entry) <= {"at", "capacity", "temperature", "battery"}:
        raise InvalidTrace(f"{ANNOTATION}[{number}]: must be an object with fields at, capacity, temperature, battery")
    values = {name: _parse_number(entry.get(name), f"{ANNOTATION}[{number}].{name}") for name in entry}
    capacity, battery = values.get("capacity"), values.get("battery")
    if capacity is not None and not 0 < capacity <= 1:
        raise InvalidTrace(f"{ANNOTATION}[{number}].capacity: {capacity} must be in (0, 1]")
    if battery is not None and not 0 <= battery <= 1:
        raise InvalidTrace(f"{ANNOTATION}[{number}].battery: {battery} must be in [0, 1]")
    return Step(at=values.get("at", 0.0), capacity=capacity, temperature_c=values.get("temperature"), battery=battery)


def _parse_number(value: Any, where: str) -> float:
    """Return the number as a float. Raise InvalidTrace if it is not a finite number in the range of a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTrace(f"{where}: must be a number, not {reprlib.repr(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidTrace(f"{where}: must be a finite number, not {reprlib.repr(value)}")
    return number
