"""`maleo plan` and `maleo replay` as a user runs them, on the example fleet."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from maleo_cli.failure import Failure
from maleo_cli.main import app

ROOT = Path(__file__).parents[2]
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
def test_objective__makes_one_figure_best(aim: str) -> None:
    def figure(found: dict[str, object]) -> float:
        predicted: dict[str, dict[str, float]] = found["predicted"]  # type: ignore[assignment]
        if aim == "latency":
            return -predicted["latency"]["tail"]
        return predicted["rate"]["value"] if aim == "rate" else -predicted["energy"]["value"]

    found = _planned("--objective", aim)
    assert figure(found) >= figure(_planned()) - 1e-12
    assert found["gap"] == 0.0  # what breaks a limit is no bound


def test_frontier__holds_the_quickest_and_the_thriftiest_plan() -> None:
    front = _planned("--frontier")["frontier"]
    assert isinstance(front, list)
    latencies = [point["predicted"]["latency"]["tail"] for point in front]
    quickest: dict[str, dict[str, float]] = _planned("--objective", "latency")["predicted"]  # type: ignore[assignment]
    assert latencies[0] == pytest.approx(quickest["latency"]["tail"])
    assert latencies == sorted(latencies)


def test_added_device__never_makes_it_worse_and_is_used_when_it_is_better() -> None:
    slow = ("--without", "edge-a1")
    without: float = _planned(*slow)["objective"]  # type: ignore[assignment]
    added = ("--add-device", "sim-server", "--site", "field-a", "--link", "drone-a1/added-1=80Mbit/s")
    found = _planned(*slow, *added)
    assert found["objective"] >= without  # type: ignore[operator]
    assert any(part["node"] == "added-1" for part in found["partitions"])  # type: ignore[attr-defined,union-attr]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--without", "nowhere"), "no node nowhere"),
        (("--add-device", "sim-servr"), "sim-server"),
        (("--link", "drone-a1/edge-a1=fast"), "--link"),
        (("--set", "drone-patrol.objectives.latency.atMost=-3ms"), "--set"),
    ],
)
def test_wrong_question__is_named_with_what_would_be_right(arguments: tuple[str, ...], told: str) -> None:
    result = _run(*arguments)
    assert isinstance(result.exception, Failure)
    assert result.exception.exit_code == 2
    assert told in str(result.exception)


def test_replay__gives_the_identical_plan_and_sees_a_changed_answer(tmp_path: Path) -> None:
    _run("--store", str(tmp_path), missions=("drone-patrol", "cctv-query"))
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) == 1
    replayed = CliRunner().invoke(app, ["replay", *map(str, files)])
    assert (replayed.exit_code, replayed.stdout.count("same")) == (0, 2)
    files[0].write_text(files[0].read_text().replace('"feasible":true', '"feasible":false', 1))
    assert CliRunner().invoke(app, ["replay", str(files[0])]).exit_code == 1
    files[0].write_text("{}")
    assert isinstance(CliRunner().invoke(app, ["replay", str(files[0])]).exception, Failure)


# ------------------------------------------------------------------------------------------------ what if


def test_link__as_it_is_declared_changes_nothing() -> None:
    """80Mbit/s is what the manifests say: the same figures, down to the uncertainty."""
    same = _planned("--link", "drone-a1/edge-a1=80Mbit/s")
    assert same["predicted"]["latency"]["tail"] == pytest.approx(_planned()["predicted"]["latency"]["tail"])  # type: ignore[index]


def test_added_devices__of_two_profiles_do_not_replace_each_other() -> None:
    two = _run("--add-device", "sim-server", "--add-device", "sim-leaf", "--count", "2", "--explain", "-o", "json")
    rows = json.loads(two.stdout)["missions"]["default/drone-patrol"]["explanation"]["classes"]
    count = {
        unit: sum(row["count"] for row in rows if row["unit"] == unit) for unit in ("sim-server npu", "sim-leaf npu")
    }
    assert count == {"sim-server npu": 3 + 2, "sim-leaf npu": 2 + 2}


def test_added_device_that_nothing_joins__is_told() -> None:
    assert "no Link joins added-1" in _run("--add-device", "sim-server").stderr
    assert _run("--add-device", "sim-server", "--link", "drone-a1/added-1=9Mbit/s").stderr == ""


def test_set__takes_the_missions_namespace_and_lists() -> None:
    assert _planned("--set", "default/drone-patrol.modes=[Local]")["mode"] == "Local"


_WRONG = {
    "a node that is not there": (("--link", "drone-a1/moon=9Mbit/s"), "'moon' is no node"),
    "a link to itself": (("--link", "drone-a1/drone-a1=9Mbit/s"), "the two ends must differ"),
    "a link of nothing": (("--link", "drone-a1/edge-a1=0Mbit/s"), "no bandwidth is no link"),
    "a mission that is not there": (("--set", "moon.modes=[Local]"), "no such mission"),
    "a field that is not there": (
        ("--set", "drone-patrol.objectives.latenzy.atMost=9ms"),
        "spec.objectives.latenzy: unknown field: did you mean latency?",
    ),
    "a field of a field that has none": (("--set", "drone-patrol.model.name.x=1"), "name holds no fields"),
    "a rule that is broken": (("--set", "drone-patrol.objectives.latency.atMost=0ms"), "must be above zero"),
    "no value": (("--set", "drone-patrol.modes"), "no such mission"),
    "no YAML": (("--set", "drone-patrol.modes=[Local"), "--set"),
}


@pytest.mark.parametrize("case", _WRONG)
def test_wrong_supposition__is_refused_with_exit_code_2(case: str) -> None:
    arguments, told = _WRONG[case]
    failure = _run(*arguments).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == 2
    assert told in str(failure)


def test_wrong_manifest__ends_with_exit_code_2_and_all_mistakes(tmp_path: Path) -> None:
    for name in ("rate-of-zero", "link-without-bandwidth"):
        (tmp_path / f"{name}.yaml").write_text((ROOT / f"tests/must_fail/{name}.yaml").read_text(encoding="utf-8"))
    failure = CliRunner().invoke(app, ["plan", "-f", str(tmp_path)]).exception
    assert isinstance(failure, Failure)
    assert failure.exit_code == 2
    assert [line.partition(" (")[0].count("must be above zero") for line in str(failure).splitlines()] == [1, 1]


# ------------------------------------------------------------------------------------------------ for people


def test_explain__tells_why_what_else_and_every_class() -> None:
    text = _run("--explain").stdout
    assert "Plan: Split fp32: drone-a1 [0..2] -- 194 KB --> edge-a1 [3..31]" in text
    assert "Why this: latency +0.345, energy +0.121, uncertainty -0.009; in all 0.457, no plan has more" in text
    assert "Best of the other modes" in text
    assert "objective -0.504: energy -0.321, latency -0.177, uncertainty -0.006" in text
    assert "EgressForbidden  would do with egress of input Site" in text
    assert "1 x hailo-8 npu         fp32  RuntimeUnsupported" in text


def test_what_does_not_fit__tells_the_blocker_and_what_would_do() -> None:
    result = _run(missions=("uam-detect-avoid",))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[-3] == "default/uam-detect-avoid"
    assert lines[-2].startswith(
        "  LatencyTooTight (cannot ever): the least bad way is Local on drone-a1 with fp32: 1.07s"
    )
    assert lines[-1] == "  would do: latency <= 1.07s"
