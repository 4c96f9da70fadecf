"""Output and commands of users: columns that fit a terminal, and a tutorial that works."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from maleo_demo.environment import Environment
from support.e2e.missions import GATE, is_ready, mission
from support.paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

_WIDTH = 100
_COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


async def test_kubectl_get__fits_a_terminal_of_100_columns(environment: Environment) -> None:
    async with mission(environment, "gate-inspection", GATE) as observer:
        await observer.await_status(is_ready, what="Ready", timeout_s=120)
        printed = [environment.kubectl("get", kind) for kind in ("missions", "placements", "devices")]
    lines = "".join(printed).splitlines()
    assert [line for line in lines if len(line.rstrip()) > _WIDTH] == []
    assert any(line.startswith("gate-inspection ") and "True" in line for line in lines)


def test_tutorial__works_unchanged(environment: Environment) -> None:
    """Run its commands in order in one shell, as a reader does."""
    script = "\n".join(_COMMANDS.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8")))
    settings = {
        **os.environ,
        "KUBECONFIG": str(environment.kubeconfig),
        "PUSH": f"oci://{environment.cluster.push_registry}/models",
        "PULL": f"oci://{environment.cluster.registry}/models",
        "PATH": f"{os.environ['PATH']}:{Path(environment.cluster.kubectl).parent}",
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert '"variant":"exact"' in done.stdout.replace(" ", "")
    assert re.search(r"suggested change: objectives\.accuracy\.atLeast: 9[0-6](\.\d+)?%", done.stdout), (
        "the accuracy of the best variant"
    )
