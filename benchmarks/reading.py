"""CPU time to read manifests with many measured spans, relative to libyaml and compared with planning on them.

Times are the minimum CPU seconds of a few rounds.
"""

import json
import tempfile
import time
from collections.abc import Callable
from itertools import combinations_with_replacement, islice
from pathlib import Path
from typing import Any

import yaml
from measure import report

from maleo_api.manifests import dump
from maleo_cli.inputs import read_inputs
from maleo_planner.planner import plan
from support.planner.builders import block, device, mission, model, profile, variant

_BLOCKS = 251
_PER_PROFILE = 250
_ROUNDS = 3


def _documents(spans: int) -> list[dict[str, Any]]:
    """Return a node, a device, a mission, a model of 251 blocks, and `spans` measured spans of it."""
    chain = [block(f"b{i}", mop=5, cut=100 if i < _BLOCKS - 1 else None, parameters="1Ki") for i in range(_BLOCKS)]
    net, cctv = model(variant("fp32", chain)), mission("cctv", modes=["Local"])
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "drone", "labels": {"maleo.dev/tier": "Device"}}}
    node["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    found = [node, *(item.to_api() for item in (net, profile("p", gops=50), device("drone", "p"), cctv))]
    places = islice(combinations_with_replacement(range(_BLOCKS), 2), spans)
    measured = [_span(first, last) for first, last in places]
    digest = net.spec.variants[0].artifacts[0].digest
    for start in range(0, spans, _PER_PROFILE):
        spec = {"variantDigest": digest, "profile": "p", "unit": "npu", "runtime": "onnxruntime"}
        meta = {"name": f"measured-{start}", "namespace": "default"}
        spec = {**spec, "spans": measured[start : start + _PER_PROFILE]}
        found.append({"apiVersion": "maleo.dev/v1alpha1", "kind": "ModelProfile", "metadata": meta, "spec": spec})
    return found


def _span(first: int, last: int) -> dict[str, Any]:
    length = last - first + 1
    latency = {"p50": f"{length * 0.1 + first * 1e-4:.4f}ms", "p95": f"{length * 0.11 + first * 1e-4:.4f}ms"}
    energy = f"{length * 0.2:.3f}mJ"
    blocks = [f"b{first}", f"b{last}"]
    return {"blocks": blocks, "latency": latency, "energy": energy, "samples": 100, "basis": "Measured"}


def _min_time(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def _row(documents: list[dict[str, Any]], spans: int, form: str, folder: Path) -> dict[str, Any]:
    as_yaml = dump(documents)
    text = as_yaml if form == "yaml" else "\n".join(json.dumps(document) for document in documents)
    file = folder / f"{spans}.{form}"
    file.write_text(text, encoding="utf-8")
    alone = _min_time(lambda: list(yaml.load_all(as_yaml, yaml.CSafeLoader)))
    reading = _min_time(lambda: read_inputs([file], cluster=None, profiles=[]))
    snapshot = read_inputs([file], cluster=None, profiles=[]).snapshot
    planning = _min_time(lambda: plan(snapshot, "default/cctv"))
    return {
        "form": form,
        "spans": spans,
        "read_s": round(reading, 2),
        "us_per_span": round(reading / spans * 1e6),
        "ratio": round(reading / alone, 2),
        "plan_s": round(planning, 2),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            _row(_documents(spans), spans, form, Path(folder))
            for form in ("yaml", "json")
            for spans in (2000, 8000, 31500)
        ]
    report("reading", rows, baseline="PyYAML with libyaml on the same documents as YAML, without validation")


if __name__ == "__main__":
    main()
