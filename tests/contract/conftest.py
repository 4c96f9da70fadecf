"""Shared fixtures of the contract tests."""

import warnings

import pytest

from maleo_cli.model import zoo


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> zoo.ZooNetwork:
    """Return the trained network of the zoo, once per session: its training takes up to a minute on a busy machine."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - takes a second, and few tests need it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return zoo.make("digits", tmp_path_factory.mktemp("digits"))
