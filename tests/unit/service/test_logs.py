"""A log record is one line: text from a peer cannot forge another record."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_service.logs import OneLine

FORGED = "x\n2026-01-01 00:00:00,000 INFO maleo.operator started leading, epoch 9"


def _lines(*arguments: object, error: Exception | None = None) -> list[str]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    record = logging.LogRecord("maleo", logging.WARNING, "", 0, "%s refused: %s", arguments, None)
    if error is not None:
        record.exc_info = (type(error), error, None)
    handler.emit(record)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("text", [FORGED, FORGED.replace("\n", "\r"), FORGED.replace("\n", "\u2028"), "\x1b[2J\x1b[H"])
def test_message__stays_one_line(text: str) -> None:
    lines = _lines("drone-1", text)
    assert len(lines) == 1
    assert lines[0].isprintable()


@given(st.text())
def test_any_text__stays_one_line(text: str) -> None:
    assert len(_lines("drone-1", text)) == 1


def test_traceback__cannot_forge_a_record() -> None:
    lines = _lines("drone-1", "x", error=ValueError(FORGED))
    assert lines[0] == "WARNING drone-1 refused: x"
    assert all(line.startswith("    ") for line in lines[1:])


def test_ordinary_message__is_unchanged() -> None:
    assert _lines("Gerät-1", "42 %") == ["WARNING Gerät-1 refused: 42 %"]
