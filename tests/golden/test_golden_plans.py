"""Plans of the example fleet, reviewed as files: a changed decision shows as a diff.

To accept new plans: MALEO_ACCEPT=1 pytest tests/golden, then read the diff.
"""

import os
from pathlib import Path

import pytest
import yaml

from maleo_api.manifests import load
from maleo_cli.output.json_output import describe
from maleo_planner.joint.fleet import plan_all
from maleo_planner.types.from_manifests import from_manifests
from maleo_planner.types.problem import Snapshot, Verdict
from support.paths import ROOT

FOLDERS = (
    "examples/fleet",
    "examples/missions",
    "examples/models",
    "charts/maleo/profiles",
)


def _round(value: object) -> object:
    """Return the value with floats of three significant digits; further digits may depend on the machine."""
    if isinstance(value, dict):
        return {key: _round(item) for key, item in value.items() if key not in ("rejected", "source")}
    if isinstance(value, list):
        return [_round(item) for item in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


@pytest.fixture(scope="module")
def fleet() -> Snapshot:
    return from_manifests(load([ROOT / folder for folder in FOLDERS]))


@pytest.fixture(scope="module")
def verdicts(fleet: Snapshot) -> dict[str, Verdict]:
    return plan_all(fleet)


@pytest.mark.parametrize("mission", sorted(p.stem for p in (ROOT / "examples/missions").glob("*.yaml")))
def test_example_mission__is_planned_as_reviewed(fleet: Snapshot, verdicts: dict[str, Verdict], mission: str) -> None:
    key = f"default/{mission}"
    got = _round(describe(fleet.missions[key], verdicts[key]))
    golden = Path(__file__).parent / f"{mission}.yaml"
    if os.environ.get("MALEO_ACCEPT"):
        golden.write_text(yaml.safe_dump(got, sort_keys=False), encoding="utf-8")
    assert got == yaml.safe_load(golden.read_text(encoding="utf-8"))
