"""Names as values of labels."""

import re

from hypothesis import given
from hypothesis import strategies as st

from maleo_api.labels import label_value

_NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9._]{0,200}[a-z0-9])?", fullmatch=True)


@given(name=_NAMES)
def test_value__is_accepted_by_kubernetes(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-A-Za-z0-9_.]{0,61}[a-z0-9])?", label_value(name))
    assert label_value(name) == name or len(name) > 63


def test_long_names__that_begin_alike_differ() -> None:
    assert label_value("a" * 63 + "b") != label_value("a" * 63 + "c")
