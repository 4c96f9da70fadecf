"""`make demo` on a real kind: from a clean copy, as an unprivileged user, with one node more than the fleet.

The tests are in the order in which a user does these steps; the last one removes everything.
"""

import json
import re
import sys
from typing import Any

import pytest

from support import kindlab
from support.kindlab import ask
from support.paths import ROOT

pytestmark = [pytest.mark.kind, pytest.mark.timeout(1200)]

_COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_KUBECTL = "kubectl --kubeconfig build/kubeconfig"


@pytest.fixture(scope="session")
def before() -> str:
    """Return the state of the engine and of the user's home before the demo."""
    kindlab.prepare()
    return _state()


def _state() -> str:
    engine = "docker ps --all --format '{{.Names}}'; docker volume ls --quiet; docker image ls --quiet 'maleo/[^l]*'"
    return ask(f"{engine}; cat $KUBECONFIG; ls $HOME/.kube/config 2>/dev/null || true")


@pytest.fixture(scope="session")
def printed(before: str) -> str:
    """Return the output of `make demo`, which must succeed."""
    text = ask("make demo PROVIDER=kind")
    sys.stdout.write(text)
    return text


@pytest.fixture(scope="session")
def report(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask("cat build/demo-report.json"))
    return found


def test_demo__has_no_failed_and_no_wrong_response_and_moves(report: dict[str, Any]) -> None:
    requests = report["requests"]
    assert requests["sent"] > 500
    assert (requests["failed"], requests["wrong"]) == (0, 0), report["failures"]
    first, second = report["placements"]
    assert first["mode"] == "Split"
    assert (second["mode"], second["cut"]) != (first["mode"], first["cut"])
    assert report["moves"][-1]["reason"] == "LatencyDrift"


def test_demo__counts_no_operator_writes_in_a_quiet_minute(report: dict[str, Any]) -> None:
    assert report["quiet_minute"] == {"seconds": 60.0, "writes": 0, "by_kind": {}}


def test_demo__runs_without_root_and_does_not_change_the_users_kubeconfig(printed: str) -> None:
    assert ask("id --user").strip() != "0"
    assert ask("ip route show 10.96.0.0/16") == "", "no route to Services was set"
    assert ask("cat $KUBECONFIG; ls $HOME/.kube/config 2>/dev/null || true") == kindlab.MINE
    assert ask("kubectl config current-context").strip() == "production"


def test_extra_node__exists_and_is_not_used_by_placements(report: dict[str, Any]) -> None:
    assert "node/maleo-worker5" in ask(f"{_KUBECTL} get nodes --output name").split()
    assert "maleo-worker5" not in str(report["placements"])


def test_printed_commands__work(printed: str) -> None:
    """The last two are not run: they switch off a node, and remove everything."""
    lines = [line.strip() for line in printed.partition("Try:\n")[2].splitlines() if line.strip()]
    exports = [line for line in lines if line.startswith("export ")]
    commands = [line for line in lines if line not in exports]
    assert commands[-2:] == ["make demo-kill NODE=edge-1", "make demo-down"]
    for command in commands[:-2]:
        ask("\n".join([*exports, command]))


def test_tutorial__works_unchanged(printed: str) -> None:
    exports = re.findall(r"^\s*(export .*)$", printed, re.MULTILINE)
    script = _COMMANDS.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))
    output = ask("\n".join([*exports, *script]))
    assert '"variant":"exact"' in output.replace(" ", "")


def test_node_without_power__is_detected_within_40_s_and_regains_its_link_speed(printed: str) -> None:
    """The default of Kubernetes is 50 s; the traffic control of the node is lost with its power."""
    shaped = "docker exec maleo-worker3 tc class show dev eth0"
    ask("make demo-link SPEED=20Mbit/s")
    assert "rate 20Mbit" in ask(shaped)
    ask("make demo-kill NODE=edge-1")
    ask(f"{_KUBECTL} wait node/maleo-worker3 --for=condition=Ready=Unknown --timeout=40s")
    ask("make demo-start NODE=edge-1")
    assert "rate 20Mbit" in ask(shaped)


def test_demo_down__removes_everything(printed: str, before: str) -> None:
    ask("make demo-down")
    assert _state() == before
    assert ask("ls build").split() == ask("ls build | grep -v -e '^kubeconfig$' -e '^demo.json$'").split()
