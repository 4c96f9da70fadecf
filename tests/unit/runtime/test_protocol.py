"""Bodies of the Open Inference Protocol: which are accepted, and that any other gives a BadRequest."""

import json
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maleo_runtime.protocol import (
    BadRequest,
    Request,
    body_limit,
    parse_request,
    parse_response,
    write_request,
    write_response,
)
from maleo_wire.messages import TensorSpec


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
        (b"no json", "the body is not valid JSON"),
        (b"[]", "the body is not a valid inference request: Expected `object`, got `array`"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs": []}', "inputs: must be a list of 1 to 64 tensors"),
        (_json(name=None), r"inputs\[0\].name"),
        (_json(datatype="BYTES"), r"inputs\[0\].datatype: 'BYTES' is not supported"),
        (_json(shape=[-1, 2]), r"inputs\[0\].shape"),
        (_json(shape=[True, 2]), r"inputs\[0\].shape"),
        (_json(shape=[1 << 30, 1 << 30]), r"inputs\[0\].shape"),
        (_json(shape=[3]), r"inputs\[0\].data: does not fill shape \[3\]"),
        (_json(data=["a", "b"]), r'inputs\[0\].data\[0\]: "a" is not a valid FP32'),
        (_json(data=None), r"inputs\[0\].data: must be a list of numbers"),
        (_json(parameters={"binary_data_size": 8}), "has both data and binary_data_size"),
        (_json(parameters={"binary_data_size": 8}, data=None), "requires 8 bytes"),
        (_json(parameters={"binary_data_size": True}, data=None), "requires 8 bytes"),
    ],
)
def test_bad_request__names_the_field_and_the_cause(body: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse_request(body, None)


@pytest.mark.parametrize("length", ["-1", "x", "999999", "¹", "9" * 5000])
def test_header_length__must_lie_within_the_body(length: str) -> None:
    with pytest.raises(BadRequest, match="is not a valid length for a body"):
        parse_request(_json(), length)


INTEGERS = ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]


def _bounds(datatype: str) -> tuple[int, int]:
    info = np.iinfo(np.dtype(datatype.lower()))
    return int(info.min), int(info.max)


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers__are_taken_to_their_bounds_and_not_beyond(datatype: str) -> None:
    low, high = _bounds(datatype)
    taken = parse_request(_json(datatype=datatype, data=[low, high]), None).tensors["x"]
    assert taken.tolist() == [[low, high]]
    for value in (low - 1, high + 1, 10**30, 1.9, 1.0, True, "1", None, [1], {}):
        shown = re.escape(json.dumps(value))
        with pytest.raises(
            BadRequest, match=rf"inputs\[0\].data\[1\]: {shown} is not a valid {datatype}|does not fill"
        ):
            parse_request(_json(datatype=datatype, data=[low, value]), None)


@pytest.mark.parametrize(("datatype", "largest"), [("FP16", 65504.0), ("FP32", 3.4028234e38), ("FP64", 1.7e308)])
def test_floats__that_would_become_infinite_are_rejected(datatype: str, largest: float) -> None:
    taken = parse_request(_json(datatype=datatype, data=[largest, -1]), None).tensors["x"]
    assert np.isfinite(taken).all()
    for text in ("1e309", "-1e309", "9" * 400, '"1"', "null", "true"):
        body = _json(datatype=datatype, data=[largest, 0]).replace(b", 0]", f", {text}]".encode())
        with pytest.raises(BadRequest, match=rf"data\[1\]: {text[:40]}.* is not a valid {datatype}"):
            parse_request(body, None)
    if datatype != "FP64":
        with pytest.raises(BadRequest, match=rf"data\[0\]: 1e\+300 is not a valid {datatype}"):
            parse_request(_json(datatype=datatype, data=[1e300, 0]), None)


def test_booleans__are_only_true_and_false() -> None:
    assert parse_request(_json(datatype="BOOL", data=[True, False]), None).tensors["x"].tolist() == [[True, False]]
    with pytest.raises(BadRequest, match=r"data\[0\]: 1 is not a valid BOOL \(true or false\)"):
        parse_request(_json(datatype="BOOL", data=[1, 0]), None)
    written = write_request({"x": np.array([0, 2], np.uint8)})
    body = written.data.replace(b"UINT8", b"BOOL")
    with pytest.raises(BadRequest, match="bytes of BOOL must be 0 or 1"):
        parse_request(body, str((written.header_length or 0) - 1))


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2, 2], [[1, 2], [3]]),
        ([2, 2], [[1, 2, 3], [4]]),
        ([2, 2], [[1, 2], 3, 4]),
        ([2, 2], [[[1, 2], [3, 4]]]),
        ([4], [[1, 2], [3, 4]]),
        ([1], []),
        ([2], [1]),
        ([0], [1]),
        ([1 << 20, 1 << 10, 0], []),
        ([1 << 31, 0], [[]]),
        ([], []),
        ([], [1, 2]),
    ],
)
def test_data_nested_otherwise_than_its_shape__is_refused(shape: list[int], data: list[Any]) -> None:
    if shape[-1:] == [0] and data == []:
        assert parse_request(_json(shape=shape, data=data), None).tensors["x"].shape == tuple(shape)
        return
    with pytest.raises(BadRequest, match=r"data.*(does not fill|do not fill|is not a valid)"):
        parse_request(_json(shape=shape, data=data), None)


@pytest.mark.parametrize(
    "data", ["[1,2", "[1,,2]", "[,]", "[1 2]", "[1,2]]", "[[1,2]", "[1,]", "[NaN,1]", "[1,Infinity]"]
)
def test_malformed_data__is_rejected(data: str) -> None:
    with pytest.raises(BadRequest):
        parse_request(_json().replace(b"[1, 2]}", data.encode() + b"}"), None)


nested = st.lists(st.integers(1, 5), min_size=1, max_size=4).flatmap(
    lambda shape: st.tuples(st.just(shape), st.sampled_from([*INTEGERS, "FP32", "FP64", "BOOL"]), st.booleans())
)


@given(drawn=nested, seed=st.integers(0, 1 << 30), indent=st.sampled_from([None, 1]))
def test_any_array__arrives_from_json_as_it_was_sent(
    drawn: tuple[list[int], str, bool], seed: int, indent: int | None
) -> None:
    shape, datatype, flat = drawn
    random = np.random.default_rng(seed)
    if datatype in INTEGERS:
        low, high = _bounds(datatype)
        array = random.integers(low, high, shape, dtype=datatype.lower(), endpoint=True)
    elif datatype == "BOOL":
        array = random.integers(0, 2, shape).astype(bool)
    else:
        array = random.standard_normal(shape).astype(datatype.replace("FP", "float"))
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "data": (array.ravel() if flat else array).tolist()}
    body = json.dumps({"inputs": [tensor]}, indent=indent).encode()
    taken = parse_request(body, None).tensors["x"]
    assert taken.dtype == array.dtype
    assert np.array_equal(taken, array)


def test_data_of_many_chunks__is_decoded_as_one() -> None:
    array = np.random.default_rng(1).standard_normal((3, 50_000)).astype(np.float32)
    taken = parse_request(_json(shape=[3, 50_000], data=array.tolist()), None).tensors["x"]
    assert np.array_equal(taken, array)
    values = [1] * 150_000
    values[123_456] = 300
    with pytest.raises(BadRequest, match=r"data\[123456\]: 300 is not a valid UINT8 \(an integer from 0 to 255\)"):
        parse_request(_json(datatype="UINT8", shape=[3, 50_000], data=values), None)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"parameters": {"priority": 3}},
            "parameters: priority not supported .priorities.; supported: binary_data_o",
        ),
        (
            {"parameters": {"sequence_id": 7, "sequence_start": True}},
            "sequence_id, sequence_start not supported .sequen",
        ),
        ({"parameters": {"sequence_id": "a"}}, "sequence_id not supported"),
        ({"parameters": {"timeout": 5}}, "timeout not supported .request timeouts"),
        ({"parameters": {"mine": 1}}, "mine not supported"),
        ({"parameters": {"binary_data_output": 1}}, "parameters.binary_data_output: must be true or false"),
        ({"parameters": {"deep": [1]}}, "parameters: Expected"),
        (
            {"outputs": [{"name": "y", "parameters": {"classification": 2}}]},
            r"outputs\[0\].parameters: classification not",
        ),
        (
            {"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
            "shared_memory_region not supported",
        ),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "duplicate output 'y'"),
        ({"outputs": [{"name": "y" * 20_000}]}, "outputs: exceeds the limit of 16384 bytes"),
        ({"id": "i" * 2000}, "id: exceeds the limit of 1024"),
    ],
)
def test_parameters_that_are_not_supported__are_named(body: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse_request(json.dumps(json.loads(_json()) | body).encode(), None)


def test_shared_memory_input__is_told_that_it_is_not_supported() -> None:
    memory = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    with pytest.raises(
        BadRequest, match=r"inputs\[0\].parameters: shared_memory_region, .* not supported .shared memory"
    ):
        parse_request(_json(parameters=memory, data=None), None)


def test_parameters_without_effect__are_accepted() -> None:
    harmless = {"sequence_id": 0, "sequence_start": False, "sequence_end": False, "priority": 0}
    body = json.loads(_json()) | {
        "parameters": harmless | {"binary_data_output": True},
        "outputs": [{"name": "y", "parameters": {"classification": 0}}],
    }
    request = parse_request(json.dumps(body).encode(), None)
    assert (request.outputs, request.binary) == (("y",), {"y": True})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_output_that_json_cannot_represent__is_rejected_with_the_remedy_and_sent_as_bytes(value: float) -> None:
    outputs = {"y": np.array([1, value], np.float32)}
    request = Request(id="", tensors={}, outputs=("y",), binary={"y": False})
    with pytest.raises(
        BadRequest, match=r"output 'y' contains NaN or infinite values.*binary_data of the output: true"
    ):
        write_response(request, outputs, model="m", version=1, parameters={})
    binary = Request(id="", tensors={}, default_binary=True)
    written = write_response(binary, outputs, model="m", version=1, parameters={})
    taken, _ = parse_response(written.data, str(written.header_length))
    assert np.array_equal(taken["y"], outputs["y"], equal_nan=True)


@pytest.mark.parametrize(
    ("shape", "binary", "limit"),
    [
        ((1, 3, 224, 224), False, 65_536 + 32 * 150_528),
        ((1, 3, 224, 224), True, 65_536 + 4 * 150_528),
        ((-1, 8), True, 1 << 26),
    ],
)
def test_body_limit__follows_the_inputs(shape: tuple[int, ...], binary: bool, limit: int) -> None:
    specs = [TensorSpec(name="x", datatype="FP32", shape=shape)]
    assert body_limit(specs, binary=binary, max_bytes=1 << 26) == limit
    assert body_limit(specs, binary=binary, max_bytes=1000) == 1000


@pytest.mark.parametrize("data", [["ab" * 50] * 2000, [[[[]]]] * 2000, [{}] * 5000, [[1] * 4000]])
def test_hostile_elements__cost_little_more_than_their_text(data: list[Any]) -> None:
    body = _json(data=data)
    tracemalloc.start()
    with pytest.raises(BadRequest):
        parse_request(body, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(body) + 100_000


def test_bytes_after_the_last_tensor__are_rejected() -> None:
    written = write_request({"x": np.ones((2, 2), dtype=np.float32)})
    with pytest.raises(BadRequest, match="3 unexpected bytes after the last tensor"):
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


def test_response__contains_only_the_requested_outputs() -> None:
    outputs = {"y": np.ones(2, dtype=np.float32), "z": np.zeros(1, dtype=np.int64)}
    request = Request(id="7", tensors={}, outputs=("z",), binary={"z": False})
    body = json.loads(write_response(request, outputs, model="m", version=1, parameters={}).data)
    assert (body["id"], [o["name"] for o in body["outputs"]], body["outputs"][0]["data"]) == ("7", ["z"], [0])
    with pytest.raises(BadRequest, match="unknown output 'q'; the model has y, z"):
        write_response(Request(id="", tensors={}, outputs=("q",)), outputs, model="m", version=1, parameters={})


def _outcome(body: bytes, length: str | None) -> object:
    """Return the tensors, or the message of the BadRequest; any other error fails the test."""
    try:
        return parse_request(body, length).tensors
    except BadRequest as error:
        return str(error)


@given(body=st.binary(max_size=400), length=st.one_of(st.none(), st.text(max_size=4)))
def test_any_bytes__give_a_request_or_bad_request(body: bytes, length: str | None) -> None:
    assert _outcome(body, length)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)


@given(name=values, datatype=st.one_of(values, st.just("FP32")), shape=values, data=values, parameters=values)
def test_any_json__gives_a_request_or_bad_request(**tensor: Any) -> None:
    assert _outcome(json.dumps({"inputs": [tensor]}).encode(), None)
