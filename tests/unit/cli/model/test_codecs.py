"""Codecs for a cut: which cuts they apply to, what crosses, and what the decoder restores."""

import numpy as np
import onnxruntime
import pytest

from maleo_api.model import Cut, Tensor
from maleo_cli.model.codecs import CodecName, CutCodec, NoCodec, make


def cut(*tensors: Tensor) -> Cut:
    return Cut(tensors=list(tensors), size="1Ki")


def tensor(name: str, datatype: str = "FP32", shape: tuple[int, ...] = (-1, 8)) -> Tensor:
    return Tensor(name=name, datatype=datatype, shape=list(shape))  # type: ignore[arg-type]


def restored(codec: CutCodec, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Encode `data`, and return the decoded tensors."""
    for net in (codec.encoder, codec.decoder):
        session = onnxruntime.InferenceSession(net.SerializeToString(), providers=["CPUExecutionProvider"])
        data = dict(zip([output.name for output in session.get_outputs()], session.run(None, data), strict=True))
    return data


@pytest.mark.parametrize(("name", "error"), [("fp16", 1e-3), ("int8", 2 / 255)])
def test_codec__restores_all_tensors_of_the_cut(name: CodecName, error: float) -> None:
    of = cut(tensor("a"), tensor("b", shape=(1, 4)))
    random = np.random.default_rng(5)
    data = {
        "a": random.uniform(-1, 1, (3, 8)).astype(np.float32),
        "b": random.uniform(-1, 1, (1, 4)).astype(np.float32),
    }
    found = restored(make(name, of), data)
    assert list(found) == ["a", "b"]
    assert all(np.abs(found[key] - value).max() <= error for key, value in data.items())


@pytest.mark.parametrize(
    ("name", "crossing", "work"),
    [
        ("fp16", [("a.fp16", "FP16", [-1, 8])], (8.0, 8.0)),
        ("int8", [("a.int8", "UINT8", [-1, 8]), ("a.scale", "FP32", []), ("a.zero", "UINT8", [])], (24.0, 16.0)),
    ],
)
def test_codec__declares_its_tensors_and_work(
    name: CodecName, crossing: list[tuple[str, str, list[int]]], work: tuple[float, float]
) -> None:
    """An unknown dimension counts as one."""
    codec = make(name, cut(tensor("a")))
    assert [(t.name, t.datatype, t.shape) for t in codec.tensors] == crossing
    assert (codec.encode, codec.decode) == work


def test_tensor_of_another_type__has_no_codec() -> None:
    with pytest.raises(NoCodec, match="tensor 'b' is INT64, not FP32"):
        make("fp16", cut(tensor("a"), tensor("b", "INT64")))


def test_too_many_tensors__have_no_codec() -> None:
    """int8 sends three tensors for each one, fp16 sends one."""
    of = cut(*(tensor(f"t{n}") for n in range(3)))
    assert len(make("fp16", of).tensors) == 3
    with pytest.raises(NoCodec, match="9 tensors would cross instead of 3; a codec has at most 8"):
        make("int8", of)
