"""YAML and JSON as kubectl reads them; `tests/cluster/api/test_documents.py` compares them with a real kubectl."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_api.documents import DocumentError, parse_documents
from support.yaml_corpus import DOCUMENTS, REFUSED, SCALARS, STRICTER


@pytest.mark.parametrize("text", SCALARS, ids=repr)
def test_scalar__is_parsed_as_by_kubectl(text: str) -> None:
    (found,) = parse_documents(f"x: {text}\n")
    assert json.dumps(found["x"]) == json.dumps(SCALARS[text])


@pytest.mark.parametrize("case", DOCUMENTS)
def test_documents__are_split_and_read_as_by_kubectl(case: str) -> None:
    text, want = DOCUMENTS[case]
    assert [document for document in parse_documents(text) if document is not None] == want


@pytest.mark.parametrize("case", [*REFUSED, *STRICTER])
def test_invalid_document__is_rejected_with_line_and_cause(case: str) -> None:
    text, message = {**REFUSED, **STRICTER}[case]
    with pytest.raises(DocumentError) as caught:
        list(parse_documents(text))
    assert str(caught.value) == message


def test_alias_bomb__is_rejected_in_bounded_work() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
    )
    with pytest.raises(DocumentError, match="aliases"):
        list(parse_documents(bomb))


def test_aliases__of_ordinary_size_are_expanded() -> None:
    text = "base: &base {k: [1, 2, 3]}\n" + "".join(f"x{n}: *base\n" for n in range(1000))
    (found,) = parse_documents(text)
    assert found["x999"] == {"k": [1, 2, 3]}


@given(st.text(max_size=200))
def test_any_text__is_parsed_or_rejected_with_one_line(text: str) -> None:
    found, error_text = [], ""
    try:
        found = list(parse_documents(text))
    except DocumentError as error:
        error_text = str(error)
    assert "\n" not in error_text
    json.dumps(found, allow_nan=False)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), _VALUES, max_size=5))
def test_json__is_parsed_as_written(value: dict[str, Any]) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=2)):
        assert list(parse_documents(f"{text}\n{text}")) == [value, value]
        assert list(parse_documents(f" \n{text}\n\t {text}\t\n")) == [value, value]
