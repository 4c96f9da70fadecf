"""Settings of a process from its environment variables."""

import os
from collections.abc import Callable
from typing import TypeVar

AnyValue = TypeVar("AnyValue")


class InvalidVariable(ValueError):
    """An environment variable is missing or malformed. The message names it."""


def read_variable(name: str, parse: Callable[[str], AnyValue], default: str | None = None) -> AnyValue:
    """Return the parsed value of a variable, or of `default`, as text, if it is not set.

    Raise InvalidVariable if the variable is required and not set, or if `parse` raises ValueError.
    """
    text = os.environ.get(name, default)
    if text is None:
        raise InvalidVariable(f"environment variable {name} is required and not set")
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidVariable(f"environment variable {name}={text!r} is invalid: {error}") from error


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in a comma-separated list."""
    return tuple(filter(None, text.split(",")))
