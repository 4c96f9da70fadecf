"""`maleo plan` and `maleo replay` as a user runs them, on the example fleet."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from maleo_cli.errors import Failure
from maleo_cli.main import app
from support.paths import MUST_FAIL, ROOT

FOLDERS = ("examples/fleet", "examples/models", "charts/maleo/profiles")


def _run(*arguments: str, missions: tuple[str, ...] = ("drone-patrol",)) -> Result:
    files = [*FOLDERS, *(f"examples/missions/{name}.yaml" for name in missions)]
    named = [word for file in files for word in ("-f", str(ROOT / file))]
    return CliRunner().invoke(app, ["plan", *named, *arguments])


def _planned(*arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(_run(*arguments, "-o", "json").stdout)["missions"]["default/drone-patrol"]
    return found


def test_json__has_the_stable_fields_with_bound_and_gap() -> None:
    found = _planned()
    assert {"feasible", "mode", "variant", "exit", "partitions", "predicted", "margins", "objective", "bound", "gap", "blockers", "relaxations"} <= set(found)  # fmt: skip  # noqa: E501
    assert found["gap"] == 0.0
    assert found["bound"] == found["objective"]


@pytest.mark.parametrize("aim", ["latency", "energy", "rate"])
def test_objective__optimizes_one_figure(aim: str) -> None:
    def figure(found: dict[str, object]) -> float:
        predicted: dict[str, dict[str, float]] = found["predicted"]  # type: ignore[assignment]
        if aim == "latency":
            return -predicted["latency"]["tail"]
        return predicted["rate"]["value"] if aim == "rate" else -predicted["energy"]["value"]

    found = _planned("--objective", aim)
    assert figure(found) >= figure(_planned()) - 1e-12
    assert found["gap"] == 0.0  # plans that violate a limit do not raise the bound


def test_frontier__is_sorted_by_latency_from_the_fastest_plan() -> None:
    front = _planned("--frontier")["frontier"]
    assert isinstance(front, list)
    latencies = [point["predicted"]["latency"]["tail"] for point in front]
    quickest: dict[str, dict[str, float]] = _planned("--objective", "latency")["predicted"]  # type: ignore[assignment]
    assert latencies[0] == pytest.approx(quickest["latency"]["tail"])
    assert latencies == sorted(latencies)


_TWO_MISSIONS = """
apiVersion: maleo.dev/v1alpha1
kind: DeviceProfile
metadata: {name: sim-server}
spec:
  vendor: v
  product: p
  computeUnits:
  - name: npu
    type: NPU
    peak: [{precision: fp32, rate: 400GFLOPS, basis: Simulated}]
    runtimes: [{name: onnxruntime, version: ">=1.20", formats: [onnx]}]
    access: {sharing: Exclusive}
---
apiVersion: maleo.dev/v1alpha1
kind: Mission
metadata: {name: %s}
spec:
  criticality: %s
  model: {name: squeezenet, variants: [fp32]}
  objectives: {latency: {atMost: 5s}}
  input: {node: edge-a1}
  modes: [Local]
---
"""


def test_frontier__excludes_exclusive_units_of_missions_of_higher_criticality(tmp_path: Path) -> None:
    server, first = _TWO_MISSIONS.split("---\n")[:2]
    fleet = (ROOT / "examples/fleet/devices.yaml").read_text(encoding="utf-8").split("---\n")
    files = [text for text in fleet if "metadata: {name: sim-server}" not in text]
    (tmp_path / "devices.yaml").write_text(
        "---\n".join([*files, server, first % ("guard", "Safety"), first % ("count", "Mission")]), encoding="utf-8"
    )
    named = [
        word
        for file in ("examples/fleet/nodes.yaml", "examples/fleet/links.yaml", "examples/models")
        for word in ("-f", str(ROOT / file))
    ]
    result = CliRunner().invoke(app, ["plan", *named, "-f", str(tmp_path), "--frontier", "-o", "json"])
    missions = json.loads(result.stdout)["missions"]
    units = {
        name: {part["unit"] for plan in found["frontier"] for part in plan["partitions"]}
        for name, found in missions.items()
    }
    assert missions["default/guard"]["partitions"][0]["unit"] == "accel/npu"
    assert units == {"default/guard": {"accel/npu"}, "default/count": {"host/cpu"}}


def test_added_device__never_lowers_the_objective_and_is_used_if_better() -> None:
    slow = ("--without", "edge-a1")
    without: float = _planned(*slow)["objective"]  # type: ignore[assignment]
    added = ("--add-device", "sim-server", "--site", "field-a", "--link", "drone-a1/added-1=80Mbit/s")
    found = _planned(*slow, *added)
    assert found["objective"] >= without  # type: ignore[operator]
    assert any(part["node"] == "added-1" for part in found["partitions"])  # type: ignore[attr-defined,union-attr]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--without", "nowhere"), "unknown node 'nowhere'"),
        (("--add-device", "sim-servr"), "sim-server"),
        (("--link", "drone-a1/edge-a1=fast"), "--link"),
        (("--set", "drone-patrol.objectives.latency.atMost=-3ms"), "--set"),
    ],
)
def test_invalid_option__is_named_in_the_error(arguments: tuple[str, ...], message: str) -> None:
    result = _run(*arguments)
    assert isinstance(result.exception, Failure)
    assert result.exception.exit_code == 2
    assert message in str(result.exception)


# ------------------------------------------------------------------------------------------------ replay


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("stored")
    _run("--store", str(folder), missions=("drone-patrol", "cctv-query"))
    (file,) = folder.glob("*.json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _replay(stored: dict[str, Any], folder: Path) -> Result:
    (folder / "stored.json").write_text(json.dumps(stored), encoding="utf-8")
    return CliRunner().invoke(app, ["replay", str(folder / "stored.json")])


def test_replay__of_a_stored_decision_gives_the_same_plans(stored: dict[str, Any], tmp_path: Path) -> None:
    replayed = _replay(stored, tmp_path)
    assert replayed.exit_code == 0
    assert [line.split()[:2] for line in replayed.stdout.splitlines()] == [
        ["same", "default/cctv-query"],
        ["same", "default/drone-patrol"],
    ]


_TAMPERED: dict[str, tuple[tuple[str | int, ...], object, str]] = {
    "mode": (("mode",), "Local", 'mode: stored "Local", planned now "Split"'),
    "exit": (("exit",), "early", 'exit: stored "early", planned now null'),
    "a unit": (("partitions", 1, "unit"), "x", 'partitions[1].unit: stored "x", planned now "accel/npu"'),
    "a codec": (("transfers", 0, "codec"), "fp16", 'transfers[0].codec: stored "fp16", planned now null'),
    "transfers": (("transfers",), [], "transfers: stored 0 entries, planned now 1"),
    "fallback": (("fallback",), "int8", 'fallback: stored "int8", planned now "fp32"'),
    "a figure": (("predicted", "latency", "mean"), 0.05, "predicted.latency.mean: stored 0.05, planned now 0.0"),
}


@pytest.mark.parametrize("case", _TAMPERED)
def test_replay__reports_every_difference(case: str, stored: dict[str, Any], tmp_path: Path) -> None:
    (*path, last), value, message = _TAMPERED[case]
    changed = json.loads(json.dumps(stored))
    place = changed["answers"]["default/drone-patrol"]
    for step in path:
        place = place[step]
    place[last] = value
    replayed = _replay(changed, tmp_path)
    assert replayed.exit_code == 1
    lines = replayed.stdout.splitlines()
    assert [line.split()[0] for line in (lines[0], lines[1])] == ["same", "DIFFERS"]
    assert len(lines) == 3
    assert lines[2].startswith(f"  {message}")


def test_replay__reports_missions_that_are_missing_on_either_side(stored: dict[str, Any], tmp_path: Path) -> None:
    answers = stored["answers"]
    replayed = _replay(stored | {"answers": {"default/gone": answers["default/cctv-query"]}}, tmp_path)
    assert replayed.exit_code == 1
    assert [line.partition("  sha256")[0] for line in replayed.stdout.splitlines()] == [
        "DIFFERS  default/cctv-query",
        "  mission: not stored, planned now",
        "DIFFERS  default/drone-patrol",
        "  mission: not stored, planned now",
        "DIFFERS  default/gone",
        "  mission: stored, not planned now",
    ]


@pytest.mark.parametrize("missing", ["aim", "answers", "inputs"])
def test_replay__of_an_incomplete_file_names_the_file(missing: str, stored: dict[str, Any], tmp_path: Path) -> None:
    failure = _replay({name: part for name, part in stored.items() if name != missing}, tmp_path).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == 2
    assert str(failure).startswith(str(tmp_path / "stored.json"))


# ------------------------------------------------------------------------------------------------ what if


def test_link__as_declared_changes_nothing() -> None:
    """The manifests declare 80Mbit/s: all figures stay the same, including the uncertainty."""
    same = _planned("--link", "drone-a1/edge-a1=80Mbit/s")
    assert same["predicted"]["latency"]["tail"] == pytest.approx(_planned()["predicted"]["latency"]["tail"])  # type: ignore[index]


def test_added_devices__of_two_profiles_do_not_replace_each_other() -> None:
    two = _run("--add-device", "sim-server", "--add-device", "sim-leaf", "--count", "2", "--explain", "-o", "json")
    rows = json.loads(two.stdout)["missions"]["default/drone-patrol"]["explanation"]["classes"]
    count = {
        unit: sum(row["count"] for row in rows if row["unit"] == unit) for unit in ("sim-server npu", "sim-leaf npu")
    }
    assert count == {"sim-server npu": 3 + 2, "sim-leaf npu": 2 + 2}


def test_added_device_without_a_link__is_reported() -> None:
    assert "no Link connects added-1" in _run("--add-device", "sim-server").stderr
    assert _run("--add-device", "sim-server", "--link", "drone-a1/added-1=9Mbit/s").stderr == ""


def test_set__accepts_a_namespace_a_leading_spec_and_lists() -> None:
    assert _planned("--set", "default/drone-patrol.modes=[Local]")["mode"] == "Local"
    assert _planned("--set", "drone-patrol.spec.modes=[Local]")["mode"] == "Local"


_FAR = "Split fp32: drone-a1 accel/npu [0..2] > edge-a1 [3..31], 60.9ms"


def test_what_if__reports_changed_missions_only() -> None:
    both = ("drone-patrol", "cctv-query")
    result = _run("--without", "edge-a1", missions=both)
    assert result.stdout.splitlines()[-2:] == [
        "Changes caused by the what-if options",
        f"  drone-patrol: {_FAR} -> Local fp32: drone-a1 host/cpu [0..31], 91.3ms",
    ]
    changed = json.loads(_run("--without", "edge-a1", "-o", "json", missions=both).stdout)["changed"]
    assert list(changed) == ["default/drone-patrol"]
    before = changed["default/drone-patrol"]
    assert (before["feasible"], before["plan"]) == (True, {name: _planned()[name] for name in before["plan"]})


def test_what_if__that_only_changes_a_limit_shows_both_objectives() -> None:
    message = _run("--set", "drone-patrol.objectives.latency.atMost=100ms").stdout.splitlines()[-1]
    assert message.endswith("60.9ms, objective 0.457 -> 0.384")


def test_what_if__without_a_feasible_plan_shows_the_blocker() -> None:
    message = _run("--set", "drone-patrol.objectives.latency.atMost=50ms").stdout.splitlines()[-1]
    assert " -> infeasible (LatencyTooTight), closest infeasible plan Split fp32: " in message


def test_what_if__without_effect_is_reported() -> None:
    assert _run("--link", "drone-a1/edge-a1=80Mbit/s").stdout.splitlines()[-1] == "The what-if options change nothing"
    assert json.loads(_run("--link", "drone-a1/edge-a1=80Mbit/s", "-o", "json").stdout)["changed"] == {}
    assert "changed" not in json.loads(_run("-o", "json").stdout)


_INVALID = {
    "an unknown node": (("--link", "drone-a1/moon=9Mbit/s"), "unknown node 'moon'"),
    "a link to itself": (("--link", "drone-a1/drone-a1=9Mbit/s"), "the two nodes must differ"),
    "a link without bandwidth": (("--link", "drone-a1/edge-a1=0Mbit/s"), "bandwidth must be greater than zero"),
    "an unknown mission": (
        ("--set", "drone-patrl.modes=[Local]"),
        "unknown mission 'drone-patrl': did you mean drone-patrol?",
    ),
    "an unknown mission with its namespace": (
        ("--set", "default/drone-patrl.modes=[Local]"),
        "unknown mission 'default/drone-patrl': did you mean default/drone-patrol?",
    ),
    "an unknown field": (
        ("--set", "drone-patrol.objectives.latenzy.atMost=9ms"),
        "spec.objectives.latenzy: unknown field: did you mean latency?",
    ),
    "a field of a scalar": (("--set", "drone-patrol.model.name.x=1"), "name has no fields"),
    "a violated rule": (("--set", "drone-patrol.objectives.latency.atMost=0ms"), "must be greater than zero"),
    "no value": (("--set", "drone-patrol.modes"), "modes: no value"),
    "invalid YAML": (("--set", "drone-patrol.modes=[Local"), "invalid YAML: line 1, column 7: "),
    "a site without a device": (("--site", "field-a"), "--site requires --add-device\n  add --add-device PROFILE"),
    "a count without a device": (("--count", "1"), "--count requires --add-device"),
    "a tier without a device": (("--tier", "Edge"), "--tier requires --add-device"),
    "an unknown site": (
        ("--add-device", "sim-server", "--site", "field-c"),
        "--site field-c: no node or Link has this site\n  did you mean field-a?",
    ),
    "an unknown profile": (
        ("--add-device", "hailo-9"),
        "unknown DeviceProfile 'hailo-9'\n  did you mean hailo-8, hailo-8l or hailo-15?",
    ),
    "a kubeconfig without --live": (("--kubeconfig", "k"), "--kubeconfig requires --live"),
}


@pytest.mark.parametrize("case", _INVALID)
def test_invalid_what_if__exits_with_code_2(case: str) -> None:
    arguments, message = _INVALID[case]
    failure = _run(*arguments).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == 2
    assert message in str(failure)


def test_invalid_manifest__exits_with_code_2_and_all_errors(tmp_path: Path) -> None:
    for name in ("rate-of-zero", "link-without-bandwidth"):
        (tmp_path / f"{name}.yaml").write_text((MUST_FAIL / f"{name}.yaml").read_text(encoding="utf-8"))
    failure = CliRunner().invoke(app, ["plan", "-f", str(tmp_path)]).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == 2
    assert [line.partition(" (")[0].count("must be greater than zero") for line in str(failure).splitlines()] == [1, 1]


# ------------------------------------------------------------------------------------------------ for people


def test_explain__shows_the_objective_the_alternatives_and_every_class() -> None:
    text = _run("--explain").stdout
    assert "Plan: Split fp32: drone-a1 accel/npu [0..2] -- 194 KB --> edge-a1 [3..31]" in text
    assert "Objective: 0.457 (latency +0.345, energy +0.121, uncertainty -0.009), optimal" in text
    assert "Best plan of each other mode" in text
    assert "objective -0.504: energy -0.321, latency -0.177, uncertainty -0.006" in text
    assert "EgressForbidden  feasible with egress.input Site" in text
    heading = "Rejected: 5 of 9 combinations of unit class and variant: "
    rejected, _, feasible = text.partition(heading)[2].partition("Feasible")
    assert rejected.startswith("EgressForbidden 4, RuntimeUnsupported 1\n")
    assert "1 x hailo-8 npu         fp32  RuntimeUnsupported" in rejected
    assert "1 x sim-server npu      fp32  objective 0.457" in feasible


def test_infeasible_mission__shows_its_blocker_and_relaxations() -> None:
    result = _run(missions=("uam-detect-avoid",))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[-3] == "default/uam-detect-avoid"
    assert lines[-2].startswith(
        "  LatencyTooTight (permanent): closest infeasible plan: Local on drone-a1 with fp32: latency"
    )
    assert lines[-1] == "  suggested change: latency <= 1.07s"


@pytest.mark.parametrize(
    ("aim", "message"),
    [
        ("latency", "Objective: -58.7ms (latency -58.7ms), optimal"),
        ("energy", "Objective: -250mJ (energy -250mJ), optimal"),
        ("rate", "Objective: 83.6/s (rate +83.6/s), optimal"),
    ],
)
def test_explain__of_one_figure_shows_terms_in_its_unit(aim: str, message: str) -> None:
    assert message in _run("--explain", "--objective", aim).stdout


def test_explain__of_unknown_energy_shows_the_assumption() -> None:
    text = _run("--explain", "--without", "edge-a1").stdout
    assert "energy       <= 900mJ Soft  unknown, assumed to be twice the limit          -0.200" in text


def test_explain__of_a_limit_in_watts_shows_watts_at_the_demanded_rate() -> None:
    text = _run("--explain", missions=("emergency-vehicle",)).stdout
    assert "<= 10W Hard" in text
    assert "178mJ Modelled, 533mW at 3/s" in text


def test_units__are_named_where_plans_use_several_of_a_node() -> None:
    text = " ".join(_run("--objective", "rate").stdout.split())
    assert "drone-a1 host/cpu [0..5] > drone-a1 accel/npu" in text
    assert "[6..11] > edge-a1 host/cpu [12..16] > edge-a1 accel/npu [17..31]" in text
    front = _run("--frontier", "--without", "edge-a1").stdout
    assert "drone-a1 host/cpu [0..31]" in front
    assert "drone-a1 accel/npu [0..31]" in front


def test_misspelt_variant__is_reported_on_stderr_although_the_mission_is_feasible() -> None:
    result = _run("--set", "drone-patrol.model.variants=[fp32, int9]", "-o", "json")
    assert result.stderr == (
        "note: Mission/default/drone-patrol: model squeezenet has no variant int9 (did you mean int8?); "
        "available: fp32, int8; correct spec.model.variants\n"
    )
    assert json.loads(result.stdout)["missions"]["default/drone-patrol"]["variant"] == "fp32"


def test_equally_specific_links__are_reported_on_stderr(tmp_path: Path) -> None:
    """One names a node and a site, the other a site and a node: the name decides."""
    rows = [("a-first", "{node: drone-a1}, {site: cloud}"), ("b-second", "{site: field-a}, {node: cloud-z1}")]
    text = "---\n".join(
        f"apiVersion: maleo.dev/v1alpha1\nkind: Link\nmetadata: {{name: {name}}}\n"
        f"spec: {{between: [{ends}], bandwidth: 10Mbit/s, roundTrip: 1ms}}\n"
        for name, ends in rows
    )
    (tmp_path / "links.yaml").write_text(text, encoding="utf-8")
    message = _run("-f", str(tmp_path / "links.yaml")).stderr
    assert "note: Link/b-second: as specific as Link/a-first between nodes cloud-z1 and drone-a1" in message
