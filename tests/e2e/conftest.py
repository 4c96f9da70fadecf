"""The demo, run once as users run it, and its cluster, on which the other tests run.

MALEO_PROVIDER selects the cluster: `devcluster`, the default, or `processes`, which needs no root. Tests that need
another cluster than the selected one are skipped with the reason.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from maleo_demo.environment import Environment
from maleo_demo.provider import current, tear_down
from maleo_devcluster import host
from support.e2e.nodes import PROVIDER
from support.paths import ROOT

_DEMO_S = 900


@pytest.fixture(scope="session")
def demo_report(leave_out: Callable[[str], NoReturn]) -> Iterator[dict[str, Any]]:
    """Yield `build/demo-report.json` of a new run, and its output as `printed`; remove the cluster after the last test.

    For work on these tests: MALEO_KEEP_CLUSTER=1 keeps the cluster, and reuses the one of a former run.
    """
    report, printed = ROOT / "build/demo-report.json", ROOT / "build/demo.log"
    keep = bool(os.environ.get("MALEO_KEEP_CLUSTER"))
    if keep and printed.exists():
        yield json.loads(report.read_text()) | {"printed": printed.read_text()}
        return
    if PROVIDER == "devcluster" and (obstacle := host.find_obstacle()):
        leave_out(f"{obstacle}: tests on real nodes are left out; MALEO_PROVIDER=processes runs them on process nodes")
    command = [sys.executable, "-m", "maleo_demo.main", "run", "--yes", "--provider", PROVIDER]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "demo")}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_DEMO_S, check=False
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        printed.write_text(done.stdout)
        yield json.loads(report.read_text()) | {"printed": done.stdout}
    finally:
        if not keep:
            tear_down(PROVIDER)


@pytest.fixture(scope="session")
def environment(demo_report: dict[str, Any]) -> Environment:
    """Return the cluster of the demo after the demo, with links at full speed."""
    cluster = current()
    cluster.unshape()
    models = {variant: ROOT / f"build/models/squeezenet-{variant}.onnx" for variant in ("fp32", "int8")}
    return Environment(cluster, models)
