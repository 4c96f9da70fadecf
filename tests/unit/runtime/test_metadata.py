"""Metadata, configuration and statistics of a slot's model, in the forms that clients of Triton read."""

from maleo_runtime.metadata import Statistics, describe, describe_config
from maleo_wire.messages import RequestPolicy, SlotDesired, TensorSpec

DESIRED = SlotDesired(
    slot="demo/cctv-0",
    mission="demo/cctv",
    model="net",
    unit="host/cpu",
    entry=True,
    identity="token",
    revisions=(),
    active=3,
    fallback=None,
    policy=RequestPolicy(latency_limit_s=None, hop_timeout_s=1.0, max_body_bytes=1),
    inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 3)),),
    outputs=(TensorSpec(name="y", datatype="INT64", shape=(1,)),),
)


def test_metadata__name_the_version_that_serves() -> None:
    assert describe(DESIRED, 3) == {
        "name": "net",
        "versions": ["3"],
        "platform": "maleo_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "INT64", "shape": [1]}],
    }


def test_metadata__name_no_version_before_one_serves() -> None:
    """The desired revision is not yet the one that answers."""
    assert describe(DESIRED, None)["versions"] == []


def test_configuration__declares_whole_shapes() -> None:
    found = describe_config(DESIRED)
    assert found["max_batch_size"] == 0
    assert found["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 3]}]
    assert found["output"] == [{"name": "y", "data_type": "TYPE_INT64", "dims": [1]}]


def test_statistics__are_counted_by_version_and_outcome() -> None:
    seen = Statistics()
    seen.record(3, success=True, seconds=0.25)
    seen.record(3, success=True, seconds=0.5)
    seen.record(3, success=False, seconds=0.125)
    seen.record(4, success=True, seconds=1.0)
    (row,) = seen.describe("net", 3)["model_stats"]
    assert row["last_inference"] > 0
    assert row | {"last_inference": 0} == {
        "name": "net",
        "version": "3",
        "last_inference": 0,
        "inference_count": 2,
        "execution_count": 2,
        "inference_stats": {
            "success": {"count": 2, "ns": 750_000_000},
            "fail": {"count": 1, "ns": 125_000_000},
        },
    }


def test_statistics__of_requests_without_a_version_have_none() -> None:
    seen = Statistics()
    seen.record(None, success=False, seconds=0.0)
    (row,) = seen.describe("net", None)["model_stats"]
    assert (row["version"], row["inference_count"], row["last_inference"]) == ("", 0, 0)
    assert row["inference_stats"]["fail"]["count"] == 1
