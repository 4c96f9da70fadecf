"""Models that no slot can load: each ends as an error that names the cause, and none ends the slot."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from aiohttp import ClientSession
from onnx import TensorProto, helper, numpy_helper

from maleo_artifacts.registry import digest_of
from maleo_runtime.artifact import ArtifactStore
from maleo_runtime.stage import LoadFailed
from maleo_runtime.trial_load import available_memory, run_trial_load
from maleo_wire.messages import Artifact, CodecSpec, Revision, StageSpec, TensorSpec
from support.slot_harness import LOOKUP, World, X, Y, running

_WAIT_S = 60
_INFO = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8]) for n in ("x", "y")]
_OPSETS = [helper.make_opsetid("", 17)]


def _save(path: Path, nodes: list[onnx.NodeProto], *, weights: list[onnx.TensorProto] | None = None) -> None:
    graph = helper.make_graph(nodes, "net", _INFO[:1], _INFO[1:], initializer=weights or [])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=_OPSETS), str(path))


def _outside(location: str, name: str = "w") -> onnx.TensorProto:
    """A weight that is said to be in another file."""
    tensor = numpy_helper.from_array(np.ones((1, 8), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _weights_elsewhere(path: Path) -> None:
    _save(path, [helper.make_node("Add", ["x", "w"], ["y"])], weights=[_outside("other.bin")])


def _weights_of_a_neighbour(path: Path) -> None:
    _save(path, [helper.make_node("Add", ["x", "w"], ["y"])], weights=[_outside("../other/model.onnx")])


def _weights_in_a_branch(path: Path) -> None:
    def branch(tensor: onnx.TensorProto) -> onnx.GraphProto:
        info = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 8])
        return helper.make_graph([helper.make_node("Identity", ["w"], ["b"])], "branch", [], [info], [tensor])

    here = numpy_helper.from_array(np.ones((1, 8), np.float32), "w")
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    choice = helper.make_node("If", ["c"], ["w"], then_branch=branch(here), else_branch=branch(_outside("other.bin")))
    _save(path, [condition, choice, helper.make_node("Add", ["x", "w"], ["y"])])


def _constant_in_another_file(path: Path) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=_outside("other.bin"))
    _save(path, [constant, helper.make_node("Add", ["x", "w"], ["y"])])


def _petabyte(path: Path) -> None:
    _fill(path, [1 << 20, 1 << 28])


def _more_than_is_left(path: Path) -> None:
    _fill(path, [available_memory() // 4 + (1 << 28), 1])


def _fill(path: Path, shape: list[int]) -> None:
    """A few bytes that make a tensor of any size."""
    size = numpy_helper.from_array(np.array(shape, np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["one"], keepdims=0),
        helper.make_node("Add", ["x", "one"], ["y"]),
    ]
    _save(path, nodes, weights=[size])


def _function_that_calls_itself(path: Path) -> None:
    call = helper.make_node("Again", ["a"], ["b"], domain="own")
    own = [*_OPSETS, helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Again", ["a"], ["b"], [call], own)
    graph = helper.make_graph([helper.make_node("Again", ["x"], ["y"], domain="own")], "net", _INFO[:1], _INFO[1:])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=own, functions=[function]), str(path))


def _half_a_file(path: Path) -> None:
    _save(
        path,
        [helper.make_node("Add", ["x", "w"], ["y"])],
        weights=[numpy_helper.from_array(np.ones(8, np.float32), "w")],
    )
    path.write_bytes(path.read_bytes()[:-20])


def _nothing(path: Path) -> None:
    path.touch()


def _no_model(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def _endless(path: Path) -> None:
    """A loop of 2^62 turns."""
    step = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 8]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 8]),
        ],
    )
    turns = numpy_helper.from_array(np.array(1 << 62, np.int64), "turns")
    true = numpy_helper.from_array(np.array(True), "true")
    _save(path, [helper.make_node("Loop", ["turns", "true", "x"], ["y"], body=step)], weights=[turns, true])


def _stage(path: Path) -> tuple[StageSpec, dict[str, Path]]:
    artifact = Artifact(uri=f"https://example/{path.name}", digest=digest_of(path), size=path.stat().st_size)
    return StageSpec(artifact=artifact, inputs=(X,), outputs=(Y,)), {artifact.digest: path}


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (_weights_elsewhere, r"weights of the model are in an external file, 'other\.bin'"),
        (_weights_of_a_neighbour, r"weights of the model are in an external file, '\.\./other/model\.onnx'"),
        (_weights_in_a_branch, r"weights of the model are in an external file, 'other\.bin'"),
        (_constant_in_another_file, r"weights of the model are in an external file, 'other\.bin'"),
        (_petabyte, "may need more memory than the [0-9]+ MiB that are available"),
        (_more_than_is_left, "may need more memory than the [0-9]+ MiB that are available"),
        (_function_that_calls_itself, "model.onnx: "),
        (_half_a_file, "model.onnx: "),
        (_nothing, "model.onnx: "),
        (_no_model, "model.onnx: "),
    ],
)
async def test_model_that_cannot_be_loaded__is_refused_with_its_cause(
    make: Callable[[Path], None], cause: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(LoadFailed, match=cause):
        await run_trial_load(*_stage(path))


async def test_model_that_never_answers__is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _endless(path)
    with pytest.raises(LoadFailed, match="loading and warming up the model exceeded 8 s"):
        await run_trial_load(*_stage(path), timeout_s=8.0)


async def test_codec_with_weights_elsewhere__is_refused(tmp_path: Path) -> None:
    """It may be a part of no graph that is cut, and is looked at all the same."""
    whole, codec = tmp_path / "model.onnx", tmp_path / "codec.onnx"
    _save(whole, [helper.make_node("Identity", ["x"], ["y"])])
    _weights_elsewhere(codec)
    stage, files = _stage(whole)
    coder = CodecSpec(
        artifact=_stage(codec)[0].artifact, tensors=(TensorSpec(name="x", datatype="FP32", shape=(1, 8)),)
    )
    ordered = StageSpec(artifact=stage.artifact, inputs=stage.inputs, outputs=stage.outputs, decoder=coder)
    with pytest.raises(LoadFailed, match="weights of the model are in an external file"):
        await run_trial_load(ordered, files | {coder.artifact.digest: codec})


async def test_slot__serves_on_beside_a_model_that_would_end_it(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        _function_that_calls_itself(tmp_path / "bomb.onnx")
        bomb = world.add(tmp_path / "bomb.onnx")
        world.start_slot("entry")
        world.tell("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)
        wrong = Revision(
            revision=2, epoch=1, variant="fp32", stage=StageSpec(artifact=bomb, inputs=(X,), outputs=(Y,)), next=None
        )
        world.tell("entry", world.local(1), wrong, active=1)
        async with world.heard:
            await asyncio.wait_for(
                world.heard.wait_for(lambda: bool(world.reports["default/entry"].slots[0].errors)), _WAIT_S
            )
        (error,) = world.reports["default/entry"].slots[0].errors
        assert error.startswith("revision 2: oci://r/bomb: ")
        world.tell("entry", world.local(1), world.local(3), active=3)
        await world.until_warm("entry", 3, active=3)
        assert not list((tmp_path / "entry").glob(f"{bomb.digest[7:]}*")), "what nobody wants any more is not kept"


async def test_artefacts_of_a_slot_that_was_killed__are_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc/model.partial").write_bytes(b"half")
    ArtifactStore(tmp_path, agent="http://127.0.0.1:1", identity="")
    assert not list(tmp_path.rglob("*.partial"))


def _spec(name: str, datatype: str = "FP32", shape: tuple[int, ...] = (1, 8)) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


_CONSTANTS = {
    "scale": np.array(0.1, np.float32),
    "zero": np.array(128, np.uint8),
    "single": np.eye(8, dtype=np.float32)[::-1].copy(),
    "dense": np.random.default_rng(5).standard_normal((8, 8)).astype(np.float32),
}


def _net(path: Path, *middle: tuple[str, str, str], **attributes: object) -> None:
    """A chain of (operator, inputs, outputs) from `x` to `m`, and then a dense layer to `y`."""
    nodes = [helper.make_node(kind, used.split(), made.split(), **attributes) for kind, used, made in middle]
    nodes += [
        helper.make_node("Cast", ["m"], ["m32"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["m32", "dense"], ["y"]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in _CONSTANTS.items()]
    opsets = [*_OPSETS, helper.make_opsetid("own", 1)]
    graph = helper.make_graph(nodes, "net", _INFO[:1], _INFO[1:], initializer=weights)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), str(path))


def _own_function(path: Path) -> None:
    half = helper.make_function("own", "Half", ["a", "s"], ["b"], [helper.make_node("Mul", ["a", "s"], ["b"])], _OPSETS)
    _net(path, ("Identity", "x", "i"), ("Identity", "i", "m"))
    model = onnx.load(str(path))
    model.graph.node[1].CopyFrom(helper.make_node("Half", ["i", "scale"], ["m"], domain="own"))
    model.functions.append(half)
    onnx.save(model, str(path))


@pytest.mark.parametrize(
    ("make", "crossing"),
    [
        (lambda path: _net(path, ("QuantizeLinear", "x scale zero", "m")), _spec("m", "UINT8")),
        (lambda path: _net(path, ("Mul", "x scale", "m")), _spec("m")),
        (lambda path: _net(path, ("Transpose", "x", "m"), perm=[0, 1]), _spec("m")),
        (lambda path: _net(path, ("Cast", "x", "m"), to=TensorProto.FLOAT16), _spec("m", "FP16")),
        (lambda path: _net(path, ("MatMul", "x single", "m")), _spec("m")),
        (lambda path: _net(path, ("Mul", "x scale", "s"), ("Mul", "s scale", "m")), _spec("m")),
        (lambda path: _net(path, ("MatMul", "x dense", "d"), ("Add", "d x", "m")), _spec("m")),
        (lambda path: _net(path, ("Identity", "x", "m")), _spec("x")),
        (_own_function, _spec("m")),
    ],
)
async def test_part_that_lets_the_input_out__is_refused_where_the_input_is_withheld(
    make: Callable[[Path], None], crossing: TensorSpec, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    stage, files = _stage(path)
    part = msgspec.structs.replace(stage, outputs=(crossing,))
    await run_trial_load(part, files)
    with pytest.raises(
        LoadFailed, match=rf"model\.onnx: tensor '{crossing.name}' is the input in another form.*import"
    ):
        await run_trial_load(msgspec.structs.replace(part, withholds_input=True), files)


async def test_part_in_the_middle__is_judged_by_the_input_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _net(path, ("Mul", "x scale", "s"), ("Mul", "s scale", "m"))
    stage, files = _stage(path)
    middle = msgspec.structs.replace(stage, inputs=(_spec("s"),), outputs=(_spec("m"),), withholds_input=True)
    with pytest.raises(LoadFailed, match="'m' is the input in another form"):
        await run_trial_load(middle, files)


async def test_output_under_another_name__is_judged_by_where_it_is_taken_from(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _net(path, ("Mul", "x scale", "m"))
    stage, files = _stage(path)
    renamed = msgspec.structs.replace(stage, outputs=(_spec("out"),), taken_from=("m",), withholds_input=True)
    with pytest.raises(LoadFailed, match="'m' is the input in another form"):
        await run_trial_load(renamed, files)


@pytest.mark.parametrize("crossing", ["m", "y"])
async def test_part_whose_outputs_combine_the_input__is_loaded_where_the_input_is_withheld(
    crossing: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    _net(path, ("MatMul", "x dense", "m"))
    stage, files = _stage(path)
    await run_trial_load(msgspec.structs.replace(stage, outputs=(_spec(crossing),), withholds_input=True), files)


async def test_slot__reports_a_part_that_would_let_the_input_out_and_serves_on(tmp_path: Path) -> None:
    async with running(tmp_path, LOOKUP) as world:
        world.start_slot("partner")
        world.start_slot("entry")
        first, _ = world.halves(2)
        world.tell("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)
        world.tell("entry", world.local(1), _withholding(first), active=1)
        await world.until_error("entry")
        (error,) = world.reports["default/entry"].slots[0].errors
        assert error.startswith("revision 2: oci://r/model: tensor 'h1' is the input in another form")
        await world.until_warm("entry", 1, active=1)


async def test_slot_that_serves__sends_nothing_once_the_input_is_withheld_and_crosses(tmp_path: Path) -> None:
    """The rule came later, so that this very part serves already: clients get the fallback, and the error is told."""
    async with running(tmp_path, LOOKUP) as world:
        world.start_slot("partner")
        world.start_slot("entry")
        first = await world.serve_halves(fallback=True)
        served = await _served_by(world)
        assert "fallback" not in served
        world.tell("entry", _withholding(first), active=1, fallback=True)
        await world.until_error("entry")
        assert await _served_by(world) == "fallback"
        world.tell("entry", first, active=1, fallback=True)
        while await _served_by(world) != served:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)


def _withholding(revision: Revision) -> Revision:
    assert revision.stage is not None
    stage = msgspec.structs.replace(revision.stage, withholds_input=True)
    return msgspec.structs.replace(revision, stage=stage)


async def _served_by(world: World) -> object:
    body = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    async with ClientSession() as session, session.post(world.url(), json=body) as response:
        return (await response.json())["parameters"]["served_by"]
