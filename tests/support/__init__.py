"""Shared code of the tests, imported as `support`; `pythonpath` in pyproject.toml names its folder."""
