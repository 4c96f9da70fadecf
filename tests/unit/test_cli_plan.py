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

    assert figure(_planned("--objective", aim)) >= figure(_planned()) - 1e-12


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
