"""Metadata of a slot's model: model metadata of the Open Inference Protocol, configuration and statistics of Triton."""

import time
from dataclasses import dataclass
from typing import Any

from maleo_wire.messages import SlotDesired, TensorSpec


def describe(desired: SlotDesired, active: int | None) -> dict[str, Any]:
    """Return the model metadata of the Open Inference Protocol."""
    return {
        "name": desired.model,
        "versions": [str(active)] if active is not None else [],
        "platform": "maleo_onnx",
        "inputs": [_describe(spec) for spec in desired.inputs],
        "outputs": [_describe(spec) for spec in desired.outputs],
    }


def describe_config(desired: SlotDesired) -> dict[str, Any]:
    """Return Triton's model configuration. A `max_batch_size` of 0 declares that `dims` are the whole shape."""
    return {
        "name": desired.model,
        "platform": "maleo_onnx",
        "max_batch_size": 0,
        "input": [_configure(spec) for spec in desired.inputs],
        "output": [_configure(spec) for spec in desired.outputs],
    }


@dataclass
class _Duration:
    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += round(seconds * 1e9)


class Statistics:
    """Inference requests at the entry since its start, by version: from the request's headers to its answer."""

    def __init__(self) -> None:
        self._success: dict[int | None, _Duration] = {}
        self._failure: dict[int | None, _Duration] = {}
        self._last_ms: dict[int | None, int] = {}

    def record(self, version: int | None, *, success: bool, seconds: float) -> None:
        """Count one request that was answered or rejected."""
        (self._success if success else self._failure).setdefault(version, _Duration()).add(seconds)
        if success:
            self._last_ms[version] = round(time.time() * 1000)

    def describe(self, model: str, version: int | None) -> dict[str, Any]:
        """Return Triton's model statistics, without those that are not measured per request."""
        success = self._success.get(version, _Duration())
        failure = self._failure.get(version, _Duration())
        statistics = {
            "name": model,
            "version": "" if version is None else str(version),
            "last_inference": self._last_ms.get(version, 0),
            "inference_count": success.count,
            "execution_count": success.count,
            "inference_stats": {"success": vars(success), "fail": vars(failure)},
        }
        return {"model_stats": [statistics]}


def _describe(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _configure(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{spec.datatype}", "dims": list(spec.shape)}
