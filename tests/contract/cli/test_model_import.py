"""`maleo model import` on real files: the Model that it writes, and errors for unusable files."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from maleo_api.manifests import load
from maleo_api.model import Model, Tensor
from maleo_api.quantities import BYTES, parse
from maleo_cli.commands import model as commands
from maleo_cli.commands.model import app
from maleo_cli.errors import Failure
from maleo_cli.model import zoo
from maleo_cli.model.analysis import Analysis, analyze
from maleo_cli.model.compare import Comparison, compare
from maleo_runtime.stage import CodecSession
from maleo_runtime.tensor import datatype_of
from maleo_wire.messages import TensorSpec


def _write(path: Path, *, width: int = 4, opset: int = 17) -> Path:
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Sqrt", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width])],
        initializer=[numpy_helper.from_array(np.eye(width, dtype=np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path


def _write_cycle(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1, 4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def _write_node(path: Path, node: onnx.NodeProto, shape: list[int]) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


def _import(*arguments: str) -> str:
    return CliRunner().invoke(app, ["import", *arguments], catch_exceptions=False).stdout


def test_import__writes_one_model_of_several_variants(tmp_path: Path) -> None:
    one, other = _write(tmp_path / "one.onnx"), _write(tmp_path / "other.onnx")
    out = tmp_path / "made" / "model.yaml"
    output = _import(
        f"fp32:fp32={one}",
        f"small:int8={other}",
        "--name",
        "net",
        "-o",
        str(out),
        "--accuracy",
        "small:top-1:set=97.4%",
    )
    assert "net small: 3 blocks, 2 cuts" in output
    model = load([out]).of(Model)["default/net"]
    assert [(v.name, v.precision, v.cutting) for v in model.spec.variants] == [
        ("fp32", "fp32", "Graph"),
        ("small", "int8", "Graph"),
    ]
    figure = model.spec.variants[1].accuracy[0]
    assert (figure.metric, figure.dataset, figure.value, figure.basis) == ("top-1", "set", "97.4%", "Declared")
    assert [t.name for t in (*model.spec.inputs, *model.spec.outputs)] == ["x", "y"]


def test_import_without_an_output_file__prints_the_model(tmp_path: Path) -> None:
    printed = yaml.safe_load(_import(f"fp32:fp32={_write(tmp_path / 'one.onnx')}", "--name", "net"))
    assert printed["spec"]["variants"][0]["artifacts"][0]["uri"] == (tmp_path / "one.onnx").as_uri()


_INVALID = {
    "different inputs": (["a:fp32=good.onnx", "b:fp32=wide.onnx"], "wide.onnx: inputs and outputs differ"),
    "unsupported opset": (["a:fp32=new.onnx"], "new.onnx: .*opset"),
    "not a model": (["a:fp32=text.onnx"], "text.onnx: not an ONNX model"),
    "cycle": (
        ["a:fp32=cycle.onnx"],
        "cycle.onnx: tensor 'b' is used before .* must be acyclic",
    ),
    "missing file": (["a:fp32=none.onnx"], "none.onnx: no such file"),
    "missing precision": (["a=good.onnx"], "write VARIANT:PRECISION=FILE.onnx"),
    "unknown precision": (["a:int5=good.onnx"], "unknown precision 'int5'"),
    "accuracy without a unit": (["a:fp32=good.onnx", "--accuracy", "a:top-1:set=97"], "for example 95%"),
    "accuracy of an unknown variant": (["a:fp32=good.onnx", "--accuracy", "b:top-1:set=97%"], "unknown variant 'b'"),
    "empty batch": (["a:fp32=empty.onnx"], r"inputs\[0\].shape.*greater than zero"),
    "accuracy above 100%": (["a:fp32=good.onnx", "--accuracy", "a:top-1:set=150%"], "accuracy.*150%.*at most"),
    "invalid variant name": (["A_1:fp32=good.onnx"], r"variants\[0\].name.*A_1.*lowercase"),
    "invalid name": (["a:fp32=good.onnx", "--name", "Net_1"], "invalid Model name 'Net_1'"),
    "name with two dots": (["a:fp32=good.onnx", "--name", "a..b"], "invalid Model name 'a..b'"),
    "custom operator": (["a:fp32=custom.onnx"], "Mystery of domain 'example' is a custom operator"),
    "nine dimensions": (["a:fp32=nine.onnx"], "'x' is of 9 dimensions; a Model describes at most 8"),
    "duplicate variant": (["a:fp32=good.onnx", "a:fp32=wide.onnx"], "duplicate variant 'a'"),
}


@pytest.mark.parametrize("case", _INVALID)
def test_invalid_import__is_rejected_with_the_cause_and_writes_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, message = _INVALID[case]
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "good.onnx")
    _write(tmp_path / "wide.onnx", width=8)
    _write(tmp_path / "new.onnx", opset=999)
    _write_cycle(tmp_path / "cycle.onnx")
    _write_node(tmp_path / "empty.onnx", helper.make_node("Neg", ["x"], ["y"]), [0, 4])
    _write_node(tmp_path / "nine.onnx", helper.make_node("Neg", ["x"], ["y"]), [1] * 9)
    _write_node(tmp_path / "custom.onnx", helper.make_node("Mystery", ["x"], ["y"], domain="example"), [1, 4])
    (tmp_path / "text.onnx").write_text("no protobuf", encoding="ascii")
    with pytest.raises(Failure, match=message):
        _import(*arguments, *([] if "--name" in arguments else ["--name", "net"]), "-o", "model.yaml")
    assert not (tmp_path / "model.yaml").exists()


@pytest.mark.parametrize("out", ["folder", "file/model.yaml"])
def test_import_to_an_unwritable_path__is_an_error(out: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no folder", encoding="ascii")
    with pytest.raises(Failure, match="cannot be written"):
        _import(f"fp32:fp32={_write(tmp_path / 'one.onnx')}", "--name", "net", "-o", str(tmp_path / out))


def test_codec_of_too_many_tensors__is_omitted_with_a_warning(tmp_path: Path) -> None:
    nodes = [("Relu", "x", "a"), ("Sqrt", "x", "b"), ("Tanh", "a", "c"), ("Max", "c b x", "y")]
    graph = helper.make_graph(
        [helper.make_node(kind, inputs.split(), [output]) for kind, inputs, output in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    out = str(tmp_path / "o.yaml")
    arguments = ["import", f"v:fp32={tmp_path / 'net.onnx'}", "--name", "net", "--codec", "int8", "-o", out]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (
        "no int8 codec for the cut after b2: 9 tensors would cross instead of 3; a codec has at most 8" in result.stderr
    )
    cuts = [block.cut for block in load([Path(out)]).of(Model)["default/net"].spec.variants[0].blocks if block.cut]
    assert {len(cut.tensors): [codec.name for codec in cut.codecs] for cut in cuts} == {2: ["int8"], 3: []}


# --------------------------------------------------------------------------------------- partitions and the whole model


def _halves() -> tuple[onnx.ModelProto, Analysis]:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])],
        initializer=[numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, analyze(model)


def test_partitions_with_the_outputs_of_the_whole_model__are_offered() -> None:
    model, found = _halves()
    assert compare(model, found) == Comparison()


@pytest.mark.parametrize(("deviation", "wrong", "noted"), [(0.02, 0, ["2%"]), (0.3, 1, [])])
def test_partitions_with_deviating_outputs__are_noted_or_not_offered(
    deviation: float, wrong: int, noted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outputs of later partitions deviate slightly, as with a runtime that fuses operators differently."""
    model, found = _halves()
    run = onnxruntime.InferenceSession.run

    def run_with_deviation(session: onnxruntime.InferenceSession, names: object, inputs: dict[str, object]) -> object:
        answers = run(session, names, inputs)
        return [answer * (1 + deviation) for answer in answers] if "a" in inputs else answers

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run_with_deviation)
    seen = compare(model, found)
    assert len(seen.wrong) == wrong
    assert [text for text in noted if f"deviate by up to {text} of" in " ".join(seen.notes)] == noted
    assert list(seen.deviations.values()) == pytest.approx([deviation] * (1 - wrong), rel=1e-3)
    again = analyze(model, without=seen.wrong)
    assert sum(block.cut is not None for block in again.blocks) == 1 - wrong
    assert any("outputs of the cut model deviate too much" in note for note in again.notes) is bool(wrong)


def test_import__records_the_deviation_of_each_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rounded up to two digits."""
    model, _ = _halves()
    onnx.save(model, str(tmp_path / "halves.onnx"))
    run = onnxruntime.InferenceSession.run

    def run_with_deviation(session: onnxruntime.InferenceSession, names: object, inputs: dict[str, object]) -> object:
        answers = run(session, names, inputs)
        return [answer * 1.0123 for answer in answers] if "a" in inputs else answers

    for patched, expected in ((run, None), (run_with_deviation, "1.3%")):
        monkeypatch.setattr(onnxruntime.InferenceSession, "run", patched)
        _import(f"fp32:fp32={tmp_path / 'halves.onnx'}", "--name", "net", "-o", str(tmp_path / "model.yaml"))
        blocks = load([tmp_path / "model.yaml"]).of(Model)["default/net"].spec.variants[0].blocks
        cuts = [block.cut.deviation for block in blocks if block.cut is not None]
        assert cuts == [expected] * len(cuts)
        assert cuts


def test_nondeterministic_model__has_a_note_that_its_cuts_were_not_compared() -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["a"]),
        helper.make_node("Neg", ["a"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (note,) = compare(model, analyze(model)).notes
    assert "not deterministic" in note


def test_import_with_codecs__writes_encoders_and_decoders_that_invert_each_other(
    tmp_path: Path, digits: zoo.ZooNetwork
) -> None:
    """For each cut of a real network and both codecs, decoding restores the tensors within the quantization step."""
    file = shutil.copy(digits.files["fp32"], tmp_path)  # codecs are written to the same folder
    out = tmp_path / "model.yaml"
    figure = "exact+int8:top-1:digits=90%:Measured"
    options = ("--codec", "int8", "--codec", "fp16", "--accuracy", figure)
    _import(f"exact:fp32={file}", "--name", "net", "-o", str(out), *options)
    variant = load([out]).of(Model)["default/net"].spec.variants[0]
    codecs = [(block.cut, codec) for block in variant.blocks if block.cut for codec in block.cut.codecs]
    assert len(codecs) == 2 * sum(block.cut is not None for block in variant.blocks)
    for cut, codec in codecs:
        tensors = [_spec(tensor) for tensor in codec.tensors]
        sides = [Path(side.uri.removeprefix("file://")) for side in (codec.encoder, codec.decoder)]
        plain = [_spec(tensor) for tensor in cut.tensors]
        encoder, decoder = (
            CodecSession(tensors, inputs, onnxruntime.InferenceSession(str(side)))
            for side, inputs in zip(sides, (plain, tensors), strict=True)
        )
        random = np.random.default_rng(1)
        values = {t.name: random.standard_normal([max(1, s) for s in t.shape]).astype(np.float32) for t in cut.tensors}
        codes = encoder.compute(values)
        assert {name: datatype_of(code) for name, code in codes.items()} == {t.name: t.datatype for t in codec.tensors}
        assert sum(code.nbytes for code in codes.values()) == pytest.approx(parse(BYTES, codec.size))
        step = {"fp16": 1e-3, "int8": 0.6 * _width(values) / 255}[codec.name]
        for name, back in decoder.compute(codes).items():
            np.testing.assert_allclose(back, values[name], rtol=step, atol=step)
    assert {codec.name: [row.value for row in codec.accuracy] for _, codec in codecs} == {"fp16": [], "int8": ["90%"]}


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(name=tensor.name, datatype=tensor.datatype, shape=tuple(tensor.shape))


def _width(tensors: dict[str, NDArray[np.float32]]) -> float:
    return max(float(np.ptp(np.append(values, 0.0))) for values in tensors.values())


def test_import_with_an_unknown_codec__is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="unknown codec 'zip'"):
        _import(f"fp32:fp32={_write(tmp_path / 'one.onnx')}", "--name", "net", "--codec", "zip")


@pytest.mark.parametrize("pull_from", ["", "oci://maleo-registry:5000/models/net"])
def test_import__writes_the_registry_address_that_nodes_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pull_from: str
) -> None:
    """A registry on a published port has a different address on the nodes."""
    file, stored = _write(tmp_path / "net.onnx"), []

    async def push(repository: str, path: Path) -> tuple[str, str]:
        stored.append((repository, path))
        return f"{repository}@{commands.registry.digest_of(path)}", commands.registry.digest_of(path)

    monkeypatch.setattr(commands.registry, "push", push)
    here = "oci://127.0.0.1:49153/models/net"
    options = ["--push", here, *(["--as", pull_from] if pull_from else [])]
    text = _import(f"fp32:fp32={file}", "--name", "net", *options)
    artifact = yaml.safe_load(text)["spec"]["variants"][0]["artifacts"][0]
    assert stored == [(here, file)]
    assert artifact["uri"] == f"{pull_from or here}@{artifact['digest']}"
    output = CliRunner().invoke(app, ["push", str(file), here, *options[2:]], catch_exceptions=False).stdout
    assert output.strip() == artifact["uri"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--as", "oci://maleo-registry:5000/models/net"], "--as requires --push"),
        (["--push", "oci://127.0.0.1:9/net", "--as", "maleo-registry:5000"], "invalid registry address"),
    ],
)
def test_import__rejects_an_invalid_registry_address_for_nodes(tmp_path: Path, options: list[str], why: str) -> None:
    with pytest.raises(Failure, match=why):
        _import(f"fp32:fp32={_write(tmp_path / 'net.onnx')}", "--name", "net", *options)
