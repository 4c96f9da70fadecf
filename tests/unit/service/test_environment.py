"""Settings from environment variables, and the message if one is invalid."""

import pytest

from maleo_service.environment import InvalidVariable, read_variable, split_names


def test_variable__is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALEO_PORT", "8080")
    assert read_variable("MALEO_PORT", int) == 8080
    assert read_variable("MALEO_PORT", int, "9090") == 8080


def test_variable_that_is_not_set__has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALEO_PORT", raising=False)
    assert read_variable("MALEO_PORT", int, "9090") == 9090


def test_required_variable_that_is_not_set__is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALEO_PORT", raising=False)
    with pytest.raises(InvalidVariable, match="environment variable MALEO_PORT is required and not set"):
        read_variable("MALEO_PORT", int)


def test_malformed_variable__is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALEO_PORT", "http")
    with pytest.raises(InvalidVariable, match="environment variable MALEO_PORT='http' is invalid: invalid literal"):
        read_variable("MALEO_PORT", int, "9090")


@pytest.mark.parametrize(("text", "names"), [("", ()), ("a", ("a",)), ("a,b", ("a", "b")), ("a,,b,", ("a", "b"))])
def test_names__are_separated_by_commas(text: str, names: tuple[str, ...]) -> None:
    assert split_names(text) == names
