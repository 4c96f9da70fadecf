"""Models that no slot can load: each ends as an error that names the cause, and none ends the slot."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from slot_world import X, Y, running

from maleo_runtime.artifact import Artifacts
from maleo_runtime.rehearsal import memory_left, rehearse
from maleo_runtime.stage import LoadFailed
from maleo_wire.messages import Artifact, Coder, Revision, Stage, TensorSpec
from maleo_wire.registry import digest_of

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
    _fill(path, [memory_left() // 4 + (1 << 28), 1])


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


def _stage(path: Path) -> tuple[Stage, dict[str, Path]]:
    artifact = Artifact(uri=f"https://example/{path.name}", digest=digest_of(path), size=path.stat().st_size)
    return Stage(artifact=artifact, inputs=(X,), outputs=(Y,)), {artifact.digest: path}


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (_weights_elsewhere, r"weights are in another file, 'other\.bin'"),
        (_weights_of_a_neighbour, r"weights are in another file, '\.\./other/model\.onnx'"),
        (_weights_in_a_branch, r"weights are in another file, 'other\.bin'"),
        (_constant_in_another_file, r"weights are in another file, 'other\.bin'"),
        (_petabyte, "may need more memory than the [0-9]+ MiB that are left"),
        (_more_than_is_left, "may need more memory than the [0-9]+ MiB that are left"),
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
        await rehearse(*_stage(path))


async def test_model_that_never_answers__is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _endless(path)
    with pytest.raises(LoadFailed, match="not loaded and warm after 8 s"):
        await rehearse(*_stage(path), longest_s=8.0)


async def test_codec_with_weights_elsewhere__is_refused(tmp_path: Path) -> None:
    """It may be a part of no graph that is cut, and is looked at all the same."""
    whole, codec = tmp_path / "model.onnx", tmp_path / "codec.onnx"
    _save(whole, [helper.make_node("Identity", ["x"], ["y"])])
    _weights_elsewhere(codec)
    stage, files = _stage(whole)
    coder = Coder(artifact=_stage(codec)[0].artifact, tensors=(TensorSpec(name="x", datatype="FP32", shape=(1, 8)),))
    ordered = Stage(artifact=stage.artifact, inputs=stage.inputs, outputs=stage.outputs, decoder=coder)
    with pytest.raises(LoadFailed, match="weights are in another file"):
        await rehearse(ordered, files | {coder.artifact.digest: codec})


async def test_slot__serves_on_beside_a_model_that_would_end_it(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        _function_that_calls_itself(tmp_path / "bomb.onnx")
        bomb = world.add(tmp_path / "bomb.onnx")
        world.start_slot("entry")
        world.tell("entry", world.local(1), active=1)
        await world.until_warm("entry", 1, active=1)
        wrong = Revision(
            revision=2, epoch=1, variant="fp32", stage=Stage(artifact=bomb, inputs=(X,), outputs=(Y,)), next=None
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
    Artifacts(tmp_path, agent="http://127.0.0.1:1", identity="")
    assert not list(tmp_path.rglob("*.partial"))
