"""Compatibility of variants with units: each incompatibility has its own code and names what the unit provides."""

from typing import Any

import pytest

from maleo_api.device import DeviceProfile
from maleo_api.model import Variant
from maleo_planner.cost_model.compatibility import Incompatibility, find_incompatibility
from maleo_planner.cost_model.units import UnitFacts, list_units
from maleo_planner.planner import plan
from maleo_planner.types.problem import Feasible, Infeasible
from maleo_planner.types.versions import match_version
from support.planner.builders import block, link, mission, model, profile, snapshot, variant

BLOCKS = [block("a", mop=100, cut=None)]


def _profile(unit: dict[str, Any] | None = None, **spec: Any) -> DeviceProfile:
    """Return a profile with ONNX Runtime 1.17 on QNN, Linux, the feature LLM and an int8 peak, with changes."""
    plain = {
        "name": "npu",
        "type": "NPU",
        "peak": [{"precision": "int8", "rate": "10GOPS", "basis": "Measured"}],
        "features": ["LLM"],
        "runtimes": [
            {"name": "onnxruntime", "version": "1.17", "formats": ["onnx"], "providers": ["QNNExecutionProvider"]}
        ],
    }
    body = {"vendor": "v", "product": "p", "os": ["Linux"], "computeUnits": [plain | (unit or {})]} | spec
    return DeviceProfile.model_validate({"metadata": {"name": "npu"}, "spec": body})


def _unit(unit: dict[str, Any] | None = None, **spec: Any) -> UnitFacts:
    world = snapshot(profiles={"drone": _profile(unit, **spec)}, missions=[], net=model(variant("v", BLOCKS)))
    return list_units(world)[0]


def _variant(requires: dict[str, Any] | None = None, **changes: Any) -> Variant:
    body = variant("v", BLOCKS, precision="int8") | changes
    return Variant.model_validate(body | {"requires": {"runtime": "onnxruntime"} | (requires or {})})


def _runtime(**changes: Any) -> dict[str, Any]:
    return {"runtimes": [{"name": "onnxruntime", "version": "1.17", "formats": ["onnx"]} | changes]}


def test_matching_variant__has_no_incompatibility() -> None:
    needs = {"version": ">=1.17,<2", "providers": ["QNNExecutionProvider"], "features": ["LLM"], "os": "Linux"}
    assert find_incompatibility(_variant(needs), _unit()) is None


@pytest.mark.parametrize(
    ("requires", "unit", "code", "what"),
    [
        ({"runtime": "hailort"}, {}, "RuntimeUnsupported", "requires runtime hailort, the unit provides onnxruntime"),
        ({}, {"runtimes": []}, "RuntimeUnsupported", "requires runtime onnxruntime, the unit provides none"),
        ({}, _runtime(formats=["tflite"]), "FormatUnsupported", "has format onnx, onnxruntime supports tflite"),
        ({"version": ">=1.18"}, {}, "RuntimeTooOld", "requires onnxruntime >=1.18, the unit provides 1.17"),
        ({"version": "<1.17"}, {}, "RuntimeTooNew", "requires onnxruntime <1.17, the unit provides 1.17"),
        (
            {"version": ">=1.17"},
            _runtime(version=""),
            "RuntimeVersionUnknown",
            "requires onnxruntime >=1.17, the unit provides an unknown version",
        ),
        (
            {"providers": ["CUDAExecutionProvider", "TensorrtExecutionProvider"]},
            {},
            "BackEndMissing",
            "requires CUDAExecutionProvider or TensorrtExecutionProvider, onnxruntime provides QNNExecutionProvider",
        ),
        ({"os": "Zephyr"}, {}, "OsUnsupported", "requires operating system Zephyr, the device runs Linux"),
        ({"features": ["LLM", "ISP"]}, {}, "FeatureMissing", "requires ISP, which the unit does not provide"),
        (
            {},
            {"peak": [{"precision": "fp16", "rate": "1TOPS", "basis": "Claimed"}]},
            "PrecisionUnsupported",
            "is int8, the unit supports fp16",
        ),
        ({}, {"peak": []}, "PeakUnknown", "is int8, the unit declares no peak"),
        (
            {},
            {"peak": [{"precision": "int8", "sparsity": "2:4", "rate": "1TOPS", "basis": "Claimed"}]},
            "PeakUnknown",
            "is Dense, the unit declares a peak for 2:4 int8 only",
        ),
    ],
)
def test_incompatibility__has_its_own_code_and_names_what_is_provided(
    requires: dict[str, Any], unit: dict[str, Any], code: str, what: str
) -> None:
    assert find_incompatibility(_variant(requires), _unit(unit)) == Incompatibility(code, what)


def test_back_end_of_an_npu__is_not_satisfied_by_the_same_runtime_on_the_cpu() -> None:
    needs = _variant({"providers": ["QNNExecutionProvider"]})
    cpu = _unit(_runtime(providers=["CPUExecutionProvider"]))
    assert find_incompatibility(_variant(), cpu) is None
    assert find_incompatibility(needs, cpu) == Incompatibility(
        "BackEndMissing", "requires QNNExecutionProvider, onnxruntime provides CPUExecutionProvider"
    )


def test_slot__gets_only_the_required_back_end() -> None:
    unit = _unit(_runtime(providers=["CUDAExecutionProvider", "QNNExecutionProvider"]))
    assert unit.providers(_variant({"providers": ["QNNExecutionProvider"]})) == ("QNNExecutionProvider",)
    assert unit.providers(_variant()) == ("CUDAExecutionProvider", "QNNExecutionProvider")


def test_device_of_unknown_operating_system__satisfies_no_required_one() -> None:
    mismatch = find_incompatibility(_variant({"os": "Linux"}), _unit(os=[]))
    assert mismatch == Incompatibility(
        "OsUnsupported", "requires operating system Linux, the device runs an unknown one"
    )


@pytest.mark.parametrize(
    ("installed", "required", "fit"),
    [
        ("", "", "Inside"),
        ("", ">=1", "Unknown"),
        ("1.17", ">=1.17.0", "Inside"),
        ("1.9", ">=1.17", "Below"),
        ("1.17.3", ">=1.17,<1.18", "Inside"),
        ("1.18", ">=1.17,<1.18", "Above"),
        ("4.x", ">=4", "Inside"),
        ("4.x", ">=4.17", "Unknown"),
        ("4.x", ">=5", "Below"),
        ("5.0.x", "<5.1", "Inside"),
        ("5.0.x", ">=5.1", "Below"),
        (">=4.17", ">=4.10", "Inside"),
        (">=4.17", ">=5", "Unknown"),
        (">=4.17", "<5", "Unknown"),
        (">=5", "<5", "Above"),
    ],
)
def test_version__is_inside_below_or_above_the_range_or_unknown(installed: str, required: str, fit: str) -> None:
    assert match_version(installed, required) == fit


def test_variant_without_a_compatible_unit__is_rejected_with_the_reason() -> None:
    net = model(variant("v", BLOCKS, precision="int8") | {"requires": {"runtime": "onnxruntime", "version": ">=1.18"}})
    verdict = plan(snapshot(profiles={"drone": _profile()}, missions=[mission()], net=net), "default/watch")
    assert isinstance(verdict, Infeasible)
    (blocker,) = verdict.blockers
    assert (blocker.code, blocker.retry) == ("RuntimeTooOld", "CannotEver")
    assert blocker.message == (
        "RuntimeTooOld rejects 1 candidates, such as npu npu "
        "(v on drone acc/npu (npu): requires onnxruntime >=1.18, the unit provides 1.17)"
    )


def test_fallback__is_none_if_the_unit_of_the_entry_cannot_run_the_variant() -> None:
    """The model needs a back end that only the edge has: the input node has no fallback, the plan is still feasible."""
    needs = {"requires": {"runtime": "onnxruntime", "providers": ["QNNExecutionProvider"]}}

    world = snapshot(
        profiles={"drone": profile("plain", gops=50), "edge": _profile()},
        missions=[mission()],
        net=model(variant("v", BLOCKS, precision="int8") | needs, inputs=100),
        links=[link("drone", "edge", "100Mbit/s")],
    )
    verdict = plan(world, "default/watch")
    assert isinstance(verdict, Feasible)
    assert (verdict.plan.mode, verdict.plan.fallback) == ("Remote", None)


def test_model_larger_than_the_chip__is_rejected_with_both_sizes() -> None:
    chip = [{"kind": "OnChip", "size": "20Mi", "basis": "Claimed"}]
    net = model(variant("v", [block("a", mop=100, cut=None, parameters="24Mi")], precision="int8"))
    world = snapshot(profiles={"drone": _profile({"memory": chip})}, missions=[mission()], net=net)
    verdict = plan(world, "default/watch")
    assert isinstance(verdict, Infeasible)
    assert verdict.blockers[0].code == "MemoryTooSmall"
    assert "v [0..0]: requires 25Mi, 20Mi is available" in verdict.blockers[0].message


def test_dedicated_memory__takes_precedence_over_on_chip_memory() -> None:
    rows = [
        {"kind": "OnChip", "size": "20Mi", "basis": "Datasheet"},
        {"kind": "Dedicated", "size": "4Gi", "basis": "Claimed"},
    ]
    assert _unit({"memory": rows}).memory == 4 * 1024**3
