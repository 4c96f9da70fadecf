"""Models that cannot be loaded: each one is an error that names the cause, and none crashes the slot."""

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


def _external_weight(location: str, name: str = "w") -> onnx.TensorProto:
    """Return a weight that refers to an external file."""
    tensor = numpy_helper.from_array(np.ones((1, 8), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _external_weights(path: Path) -> None:
    _save(path, [helper.make_node("Add", ["x", "w"], ["y"])], weights=[_external_weight("other.bin")])


def _weights_of_another_artifact(path: Path) -> None:
    _save(path, [helper.make_node("Add", ["x", "w"], ["y"])], weights=[_external_weight("../other/model.onnx")])


def _external_weights_in_a_branch(path: Path) -> None:
    def branch(tensor: onnx.TensorProto) -> onnx.GraphProto:
        info = helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 8])
        return helper.make_graph([helper.make_node("Identity", ["w"], ["b"])], "branch", [], [info], [tensor])

    here = numpy_helper.from_array(np.ones((1, 8), np.float32), "w")
    condition = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    choice = helper.make_node(
        "If", ["c"], ["w"], then_branch=branch(here), else_branch=branch(_external_weight("other.bin"))
    )
    _save(path, [condition, choice, helper.make_node("Add", ["x", "w"], ["y"])])


def _external_constant(path: Path) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=_external_weight("other.bin"))
    _save(path, [constant, helper.make_node("Add", ["x", "w"], ["y"])])


def _tensor_of_a_petabyte(path: Path) -> None:
    _write_constant_of_shape(path, [1 << 20, 1 << 28])


def _tensor_larger_than_available_memory(path: Path) -> None:
    _write_constant_of_shape(path, [available_memory() // 4 + (1 << 28), 1])


def _write_constant_of_shape(path: Path, shape: list[int]) -> None:
    """Write a small model that allocates a tensor of any size."""
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


def _truncated_file(path: Path) -> None:
    _save(
        path,
        [helper.make_node("Add", ["x", "w"], ["y"])],
        weights=[numpy_helper.from_array(np.ones(8, np.float32), "w")],
    )
    path.write_bytes(path.read_bytes()[:-20])


def _empty_file(path: Path) -> None:
    path.touch()


def _random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 100)


def _endless_loop(path: Path) -> None:
    """Write a loop of 2^62 iterations."""
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
    iterations = numpy_helper.from_array(np.array(1 << 62, np.int64), "iterations")
    true = numpy_helper.from_array(np.array(True), "true")
    _save(path, [helper.make_node("Loop", ["iterations", "true", "x"], ["y"], body=step)], weights=[iterations, true])


def _stage(path: Path) -> tuple[StageSpec, dict[str, Path]]:
    artifact = Artifact(uri=f"https://example/{path.name}", digest=digest_of(path), size=path.stat().st_size)
    return StageSpec(artifact=artifact, inputs=(X,), outputs=(Y,)), {artifact.digest: path}


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (_external_weights, r"weights of the model are in an external file, 'other\.bin'"),
        (_weights_of_another_artifact, r"weights of the model are in an external file, '\.\./other/model\.onnx'"),
        (_external_weights_in_a_branch, r"weights of the model are in an external file, 'other\.bin'"),
        (_external_constant, r"weights of the model are in an external file, 'other\.bin'"),
        (_tensor_of_a_petabyte, "may need more memory than the [0-9]+ MiB that are available"),
        (_tensor_larger_than_available_memory, "may need more memory than the [0-9]+ MiB that are available"),
        (_function_that_calls_itself, "model.onnx: "),
        (_truncated_file, "model.onnx: "),
        (_empty_file, "model.onnx: "),
        (_random_bytes, "model.onnx: "),
    ],
)
async def test_model_that_cannot_be_loaded__is_refused_with_its_cause(
    make: Callable[[Path], None], cause: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(LoadFailed, match=cause):
        await run_trial_load(*_stage(path))


async def test_model_that_never_finishes__fails_at_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _endless_loop(path)
    with pytest.raises(LoadFailed, match="loading and warming up the model exceeded 8 s"):
        await run_trial_load(*_stage(path), timeout_s=8.0)


async def test_codec_with_external_weights__is_rejected(tmp_path: Path) -> None:
    """Codec models are checked like the model itself."""
    whole, codec = tmp_path / "model.onnx", tmp_path / "codec.onnx"
    _save(whole, [helper.make_node("Identity", ["x"], ["y"])])
    _external_weights(codec)
    stage, files = _stage(whole)
    coder = CodecSpec(
        artifact=_stage(codec)[0].artifact, tensors=(TensorSpec(name="x", datatype="FP32", shape=(1, 8)),)
    )
    ordered = StageSpec(artifact=stage.artifact, inputs=stage.inputs, outputs=stage.outputs, decoder=coder)
    with pytest.raises(LoadFailed, match="weights of the model are in an external file"):
        await run_trial_load(ordered, files | {coder.artifact.digest: codec})


async def test_slot__keeps_serving_when_another_model_would_crash_it(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        _function_that_calls_itself(tmp_path / "bomb.onnx")
        bomb = world.add(tmp_path / "bomb.onnx")
        world.start_slot("entry")
        world.push("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)
        crashing = Revision(
            revision=2, epoch=1, variant="fp32", stage=StageSpec(artifact=bomb, inputs=(X,), outputs=(Y,)), next=None
        )
        world.push("entry", world.local(1), crashing, active=1)
        async with world.changed:
            await asyncio.wait_for(
                world.changed.wait_for(lambda: bool(world.reports["default/entry"].slots[0].errors)), _WAIT_S
            )
        (error,) = world.reports["default/entry"].slots[0].errors
        assert error.startswith("revision 2: oci://r/bomb: ")
        world.push("entry", world.local(1), world.local(3), active=3)
        await world.until_warm("entry", 3, active=3)
        assert not list((tmp_path / "entry").glob(f"{bomb.digest[7:]}*")), "artifacts of removed revisions are deleted"


async def test_partial_artifacts_of_a_killed_slot__are_removed(tmp_path: Path) -> None:
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
    """Write a chain of (operator, inputs, outputs) from `x` to `m`, followed by a dense layer to `y`."""
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
async def test_partition_that_outputs_the_raw_input__is_rejected_if_the_input_is_withheld(
    make: Callable[[Path], None], crossing: TensorSpec, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    stage, files = _stage(path)
    partition = msgspec.structs.replace(stage, outputs=(crossing,))
    await run_trial_load(partition, files)
    with pytest.raises(
        LoadFailed, match=rf"model\.onnx: tensor '{crossing.name}' is the input in another form.*import"
    ):
        await run_trial_load(msgspec.structs.replace(partition, withholds_input=True), files)


async def test_partition_in_the_middle__is_checked_against_the_input_of_the_whole_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _net(path, ("Mul", "x scale", "s"), ("Mul", "s scale", "m"))
    stage, files = _stage(path)
    middle = msgspec.structs.replace(stage, inputs=(_spec("s"),), outputs=(_spec("m"),), withholds_input=True)
    with pytest.raises(LoadFailed, match="'m' is the input in another form"):
        await run_trial_load(middle, files)


async def test_renamed_output__is_checked_by_its_source_tensor(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _net(path, ("Mul", "x scale", "m"))
    stage, files = _stage(path)
    renamed = msgspec.structs.replace(stage, outputs=(_spec("out"),), taken_from=("m",), withholds_input=True)
    with pytest.raises(LoadFailed, match="'m' is the input in another form"):
        await run_trial_load(renamed, files)


@pytest.mark.parametrize("crossing", ["m", "y"])
async def test_partition_that_outputs_features__is_loaded_if_the_input_is_withheld(
    crossing: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    _net(path, ("MatMul", "x dense", "m"))
    stage, files = _stage(path)
    await run_trial_load(msgspec.structs.replace(stage, outputs=(_spec(crossing),), withholds_input=True), files)


async def test_slot__reports_a_partition_that_would_output_the_raw_input_and_keeps_serving(tmp_path: Path) -> None:
    async with running(tmp_path, LOOKUP) as world:
        world.start_slot("partner")
        world.start_slot("entry")
        first, _ = world.halves(2)
        world.push("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)
        world.push("entry", world.local(1), _withholding(first), active=1)
        await world.until_error("entry")
        (error,) = world.reports["default/entry"].slots[0].errors
        assert error.startswith("revision 2: oci://r/model: tensor 'h1' is the input in another form")
        await world.until_warm("entry", 1, active=1)


async def test_serving_slot__stops_sending_the_raw_input_once_it_is_withheld(tmp_path: Path) -> None:
    """The rule is set while the partition serves: clients get the fallback, and the error is reported."""
    async with running(tmp_path, LOOKUP) as world:
        world.start_slot("partner")
        world.start_slot("entry")
        first = await world.serve_halves(fallback=True)
        served = await _served_by(world)
        assert "fallback" not in served
        world.push("entry", _withholding(first), active=1, fallback=True)
        await world.until_error("entry")
        assert await _served_by(world) == "fallback"
        world.push("entry", first, active=1, fallback=True)
        while await _served_by(world) != served:  # noqa: ASYNC110 - no event is sent
            await asyncio.sleep(0.05)


def _withholding(revision: Revision) -> Revision:
    assert revision.stage is not None
    stage = msgspec.structs.replace(revision.stage, withholds_input=True)
    return msgspec.structs.replace(revision, stage=stage)


async def _served_by(world: World) -> object:
    body = {"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    async with ClientSession() as session, session.post(world.url(), json=body) as response:
        return (await response.json())["parameters"]["served_by"]
