"""`make demo` on a real kind: from a clean copy, as an ordinary user, with one node more than the fleet has.

The tests stand in the order in which a user does these things; the last one removes everything.
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
    """What stands in the engine and in the user's home without the demo."""
    kindlab.prepare()
    return _left()


def _left() -> str:
    engine = "docker ps --all --format '{{.Names}}'; docker volume ls --quiet; docker image ls --quiet 'maleo/[^l]*'"
    return ask(f"{engine}; cat $KUBECONFIG; ls $HOME/.kube/config 2>/dev/null || true")


@pytest.fixture(scope="session")
def printed(before: str) -> str:
    """What `make demo` printed; it must succeed."""
    text = ask("make demo PROVIDER=kind")
    sys.stdout.write(text)
    return text


@pytest.fixture(scope="session")
def report(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask("cat build/demo-report.json"))
    return found


def test_demo__loses_no_request_answers_none_wrongly_and_moves(report: dict[str, Any]) -> None:
    requests = report["requests"]
    assert requests["sent"] > 500
    assert (requests["failed"], requests["wrong"]) == (0, 0), report["failures"]
    first, second = report["placements"]
    assert first["mode"] == "Split"
    assert (second["mode"], second["cut"]) != (first["mode"], first["cut"])
    assert report["moves"][-1]["reason"] == "LatencyDrift"


def test_demo__counts_the_operators_writes_in_a_quiet_minute(report: dict[str, Any]) -> None:
    assert report["quiet_minute"] == {"seconds": 60.0, "writes": 0, "by_kind": {}}


def test_demo__runs_as_an_ordinary_user_and_leaves_the_users_kubeconfig_alone(printed: str) -> None:
    assert ask("id --user").strip() != "0"
    assert ask("ip route show 10.96.0.0/16") == "", "no route to Services was set"
    assert ask("cat $KUBECONFIG; ls $HOME/.kube/config 2>/dev/null || true") == kindlab.MINE
    assert ask("kubectl config current-context").strip() == "production"


def test_extra_node__is_there_and_not_part_of_the_fleet(report: dict[str, Any]) -> None:
    assert "node/maleo-worker5" in ask(f"{_KUBECTL} get nodes --output name").split()
    assert "maleo-worker5" not in str(report["placements"])


def test_commands_that_it_ends_with__work(printed: str) -> None:
    """All but the last two: those switch a node off and everything."""
    lines = [line.strip() for line in printed.partition("Try:\n")[2].splitlines() if line.strip()]
    exports = [line for line in lines if line.startswith("export ")]
    commands = [line for line in lines if line not in exports]
    assert commands[-2:] == ["make demo-kill NODE=edge-1", "make demo-down"]
    for command in commands[:-2]:
        ask("\n".join([*exports, command]))


def test_tutorial__works_as_it_stands(printed: str) -> None:
    exports = re.findall(r"^\s*(export .*)$", printed, re.MULTILINE)
    script = _COMMANDS.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))
    said = ask("\n".join([*exports, *script]))
    assert '"variant":"exact"' in said.replace(" ", "")


def test_node_that_lost_power__is_missed_soon_and_has_its_link_speed_when_it_returns(printed: str) -> None:
    """Kubernetes' own setting is 50 s; the node's traffic control went with its power."""
    shaped = "docker exec maleo-worker3 tc class show dev eth0"
    ask("make demo-link SPEED=20Mbit/s")
    assert "rate 20Mbit" in ask(shaped)
    ask("make demo-kill NODE=edge-1")
    ask(f"{_KUBECTL} wait node/maleo-worker3 --for=condition=Ready=Unknown --timeout=40s")
    ask("make demo-start NODE=edge-1")
    assert "rate 20Mbit" in ask(shaped)


def test_demo_down__leaves_nothing(printed: str, before: str) -> None:
    ask("make demo-down")
    assert _left() == before
    assert ask("ls build").split() == ask("ls build | grep -v -e '^kubeconfig$' -e '^demo.json$'").split()
