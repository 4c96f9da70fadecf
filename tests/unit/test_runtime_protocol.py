"""Bodies of the Open Inference Protocol: what is taken, and that whatever comes ends in a request or in BadRequest."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_runtime.protocol import BadRequest, Request, parse_request, parse_response, write_request, write_response


def _json(**changes: Any) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]} | changes
    return json.dumps({"inputs": [tensor]}).encode()


def test_json_request__gives_its_tensors() -> None:
    request = parse_request(_json(data=[[1.5, 2.5]]), None)
    assert request.tensors["x"].tolist() == [[1.5, 2.5]]
    assert request.tensors["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"no json", "the body is no JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "inputs: a list of 1 to 64 tensors"),
        (_json(name=None), r"inputs\[0\].name"),
        (_json(datatype="BYTES"), r"inputs\[0\].datatype: 'BYTES' is not served"),
        (_json(shape=[-1, 2]), r"inputs\[0\].shape"),
        (_json(shape=[True, 2]), r"inputs\[0\].shape"),
        (_json(shape=[1 << 30, 1 << 30]), r"inputs\[0\].shape"),
        (_json(shape=[3]), r"inputs\[0\].data: does not fill shape \[3\]"),
        (_json(data=["a", "b"]), r"inputs\[0\].data: numbers are needed"),
        (_json(data=None), r"inputs\[0\].data: a list of numbers is needed"),
        (_json(parameters={"binary_data_size": 8}), "8 bytes are needed"),
    ],
)
def test_bad_request__says_which_field_and_why(body: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse_request(body, None)


@pytest.mark.parametrize("length", ["-1", "x", "999999", "¹", "9" * 5000])
def test_header_length__must_lie_within_the_body(length: str) -> None:
    with pytest.raises(BadRequest, match="is no length within the body"):
        parse_request(_json(), length)


def test_bytes_that_no_tensor_claims__are_refused() -> None:
    written = write_request({"x": np.ones((2, 2), dtype=np.float32)})
    with pytest.raises(BadRequest, match="3 bytes follow the last tensor"):
        parse_request(written.data + b"abc", str(written.header_length))


arrays = st.builds(
    lambda shape, dtype: np.arange(int(np.prod(shape))).astype(dtype).reshape(shape),
    st.lists(st.integers(0, 4), min_size=0, max_size=4),
    st.sampled_from([np.float32, np.float64, np.float16, np.int8, np.uint8, np.int64, np.bool_]),
)


@given(tensors=st.dictionaries(st.text(min_size=1, max_size=8), arrays, min_size=1, max_size=4))
def test_binary_tensors__arrive_as_they_were_sent(tensors: dict[str, Any]) -> None:
    written = write_request(tensors)
    request = parse_request(written.data, written.headers.get("Inference-Header-Content-Length"))
    assert request.tensors.keys() == tensors.keys()
    assert all(
        np.array_equal(request.tensors[n], a) and request.tensors[n].dtype == a.dtype for n, a in tensors.items()
    )
    answer = write_response(request, tensors, model="m", version=3, parameters={"variant": "v"})
    outputs, parameters = parse_response(answer.data, answer.headers.get("Inference-Header-Content-Length"))
    assert parameters == {"variant": "v"}
    assert all(np.array_equal(outputs[name], array) for name, array in tensors.items())


def test_response__holds_the_outputs_asked_for_and_no_others() -> None:
    outputs = {"y": np.ones(2, dtype=np.float32), "z": np.zeros(1, dtype=np.int64)}
    request = Request(id="7", tensors={}, outputs=("z",), binary={"z": False})
    body = json.loads(write_response(request, outputs, model="m", version=1, parameters={}).data)
    assert (body["id"], [o["name"] for o in body["outputs"]], body["outputs"][0]["data"]) == ("7", ["z"], [0])
    with pytest.raises(BadRequest, match="no output 'q'; it has y, z"):
        write_response(Request(id="", tensors={}, outputs=("q",)), outputs, model="m", version=1, parameters={})


def _outcome(body: bytes, length: str | None) -> object:
    """Tensors, or what was refused; any other error fails the test."""
    try:
        return parse_request(body, length).tensors
    except BadRequest as error:
        return str(error)


@given(body=st.binary(max_size=400), length=st.one_of(st.none(), st.text(max_size=4)))
def test_any_bytes__end_in_a_request_or_in_bad_request(body: bytes, length: str | None) -> None:
    assert _outcome(body, length)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)


@given(name=values, datatype=st.one_of(values, st.just("FP32")), shape=values, data=values, parameters=values)
def test_any_json__ends_in_a_request_or_in_bad_request(**tensor: Any) -> None:
    assert _outcome(json.dumps({"inputs": [tensor]}).encode(), None)
