"""Example networks to try Maleo with.

Real architectures with seeded random weights, as their metadata says, and one small classifier that is trained, so that
its accuracy figures are measured.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from maleo_cli.errors import Failure

_SEED: Final = 20251
_IR: Final = 8
_OPSET: Final = 17
_RANDOM: Final = "seeded random weights: the architecture is real, the answers mean nothing"
"""Stored in the networks, so it is part of the digests that `examples/models` name."""
NETWORKS: Final = ("squeezenet", "shufflenet", "resnet50")


@dataclass(frozen=True, slots=True)
class ZooNetwork:
    """Result of `make`. files: by variant. accuracy: by variant, measured (metric, data set, share)."""

    files: dict[str, Path]
    accuracy: dict[str, tuple[str, str, float]]


def make(name: str, folder: Path) -> ZooNetwork:
    """Write the variants of a zoo network to `folder`. Raise `Failure` if the zoo has no such network."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "digits":
        return _make_digits(folder)
    if name not in NETWORKS:
        raise Failure(f"unknown network {name!r}", f"known networks: {', '.join([*NETWORKS, 'digits'])}", exit_code=2)
    model = _randomise(_load_light(name))
    samples = [np.random.default_rng(_SEED + i).standard_normal((1, 3, 224, 224), dtype=np.float32) for i in range(4)]
    return ZooNetwork(files=_write_variants(name, model, samples, folder), accuracy={})


def _load_light(name: str) -> onnx.ModelProto:
    """Return a network of the onnx package's test data, whose weights are computed and not stored."""
    path = Path(onnx.__file__).parent / "backend/test/data/light" / f"light_{name}.onnx"
    return onnx.load(str(path))


def _randomise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with scaled random weights in place of the constants that ConstantOfShape computes."""
    graph, random = model.graph, np.random.default_rng(_SEED)
    stored = {t.name: t for t in graph.initializer}
    weights, nodes = [], []
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in stored:
            shape = tuple(int(length) for length in numpy_helper.to_array(stored[node.input[0]]))
            weights.append(_random_weights(node.output[0], shape, random))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    for tensor in (t for t in graph.initializer if t.name in used):
        is_weight = tensor.data_type == TensorProto.FLOAT  # integers are shapes to reshape to
        weights.append(_random_weights(tensor.name, tuple(tensor.dims), random) if is_weight else tensor)
    inputs = [v for v in graph.input if v.name not in stored]
    randomised = helper.make_graph(nodes, graph.name, inputs, graph.output, initializer=weights)
    result = helper.make_model(randomised, opset_imports=model.opset_import, ir_version=_IR)
    helper.set_model_props(result, {"weights": _RANDOM})
    return onnx.version_converter.convert_version(result, 13)


def _random_weights(name: str, shape: tuple[int, ...], random: np.random.Generator) -> TensorProto:
    """Return random weights by name and shape.

    He's initialisation keeps activations in range at any depth; vectors are small, variances positive.
    """
    if len(shape) > 1:
        values = random.standard_normal(shape) * np.sqrt(2.0 / max(1, int(np.prod(shape[1:]))))
    else:
        values = np.abs(random.standard_normal(shape)) * 0.1 + (0.5 if "var" in name or "_s_" in name else 0.0)
    return numpy_helper.from_array(values.astype(np.float32), name)


def _write_variants(
    name: str, model: onnx.ModelProto, samples: list[NDArray[np.float32]], folder: Path
) -> dict[str, Path]:
    """Write the fp32 variant, and int8 by static quantisation calibrated on `samples`; return files by variant."""
    fp32, int8 = folder / f"{name}-fp32.onnx", folder / f"{name}-int8.onnx"
    onnx.save(model, str(fp32))
    _quantise(fp32, int8, model.graph.input[0].name, samples)
    return {"fp32": fp32, "int8": int8}


def _quantise(source: Path, target: Path, input_name: str, samples: list[NDArray[np.float32]]) -> None:
    """Write a statically quantised QDQ model of `source` to `target`, calibrated on `samples`."""
    from onnxruntime.quantization import (  # noqa: PLC0415 - slow to import, for the zoo only
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(samples)

        def get_next(self) -> dict[str, Any] | None:
            sample = next(self._rest, None)
            return None if sample is None else {input_name: sample}

    logging.disable(logging.WARNING)  # onnxruntime recommends a preprocessing step that these graphs do not need
    try:
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        )
    finally:
        logging.disable(logging.NOTSET)


# ------------------------------------------------------------------------------------------------ digits


def _make_digits(folder: Path) -> ZooNetwork:
    """Train a multi-layer perceptron on scikit-learn's digits; measure its accuracy on a held-out third."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - development only
        from sklearn.model_selection import train_test_split  # noqa: PLC0415
        from sklearn.neural_network import MLPClassifier  # noqa: PLC0415
    except ImportError:
        raise Failure("training the digits classifier requires scikit-learn", "pip install scikit-learn") from None
    data, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        data.astype(np.float32) / 16, labels, test_size=1 / 3, random_state=_SEED
    )
    network = MLPClassifier(hidden_layer_sizes=(128, 96, 64, 48, 32), max_iter=300, random_state=_SEED)
    network.fit(train, train_labels)
    model = _export_perceptron(network.coefs_, network.intercepts_)
    samples = [row[None].astype(np.float32) for row in train[:200]]
    files = _write_variants("digits", model, samples, folder)
    accuracy = {
        variant: ("top-1", "sklearn-digits-test", _measure(path, test.astype(np.float32), test_labels))
        for variant, path in files.items()
    }
    return ZooNetwork(files=files, accuracy=accuracy)


def _export_perceptron(weights: list[NDArray[Any]], biases: list[NDArray[Any]]) -> onnx.ModelProto:
    nodes, initializers, before = [], [], "pixels"
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        initializers += [
            numpy_helper.from_array(weight.astype(np.float32), f"w{layer}"),
            numpy_helper.from_array(bias.astype(np.float32), f"b{layer}"),
        ]
        last = layer == len(weights) - 1
        output = "logits" if last else f"sum{layer}"
        nodes.append(helper.make_node("Gemm", [before, f"w{layer}", f"b{layer}"], [output], name=f"gemm{layer}"))
        if not last:
            nodes.append(helper.make_node("Relu", [output], [f"relu{layer}"], name=f"relu{layer}"))
            before = f"relu{layer}"
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, weights[0].shape[0]])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, weights[-1].shape[1]])]
    graph = helper.make_graph(nodes, "digits", inputs, outputs, initializer=initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


def _measure(path: Path, data: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """Return the top-1 accuracy of a model file on labelled data, 0 to 1."""
    import onnxruntime  # noqa: PLC0415 - slow to import

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    run: Callable[[NDArray[np.float32]], Any] = lambda row: session.run(None, {"pixels": row[None]})[0]  # noqa: E731
    right = sum(int(np.argmax(run(row))) == label for row, label in zip(data, labels, strict=True))
    return float(right / len(labels))
