"""Introspection of API models: fields by their API names, nested models, and metadata of annotations."""

from typing import Annotated, Any

import pytest

from maleo_api.fields import annotation_at, fields_of, of_model
from maleo_api.meta import Schema


class Note:
    def __init__(self, text: str) -> None:
        self.text = text


class Inner(Schema):
    some_figure: Annotated[int, Note("figure")] = 0


class Outer(Schema):
    plain_text: str = ""
    one: Inner | None = None
    many: Annotated[list[Inner], Note("many")] = []
    names: list[Annotated[str, Note("name")]] = []


@pytest.mark.parametrize(
    ("annotation", "want"),
    [
        (Inner, Inner),
        (Inner | None, Inner),
        (list[Inner], Inner),
        (Annotated[list[Inner], Note("many")], Inner),
        (dict[str, list[Inner]], Inner),
        (str, None),
        (list[str], None),
        (Any, None),
    ],
)
def test_model_of_an_annotation__is_found(annotation: object, want: type[Schema] | None) -> None:
    assert of_model(annotation) is want


def test_fields__have_their_api_names_and_models() -> None:
    found = {name: (field.name, field.model) for name, field in fields_of(Outer).items()}
    assert found == {
        "plainText": ("plain_text", None),
        "one": ("one", Inner),
        "many": ("many", Inner),
        "names": ("names", None),
    }


@pytest.mark.parametrize(
    ("path", "want"),
    [
        (["one", "someFigure"], "figure"),
        (["many", 3, "someFigure"], "figure"),
        (["many"], "many"),
        (["names", 0], "name"),
        (["plainText"], None),
        (["one", "nothing"], None),
        ([], None),
    ],
)
def test_annotation__is_found_along_the_path(path: list[str | int], want: str | None) -> None:
    note = annotation_at(Outer, path, Note)
    assert (note and note.text) == want
