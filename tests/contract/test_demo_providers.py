"""Which cluster the demo takes, and what it asks of kind and Docker: stand-ins for their programs note the calls."""

import stat
from pathlib import Path

import pytest

from maleo_demo import given, kind
from maleo_demo.environment import rename
from maleo_demo.given import Given, NotGiven
from maleo_demo.kind import Kind, Unavailable
from maleo_demo.provider import choose, foresee, tear_down
from maleo_devcluster.binaries import ALL, Sources

_NODES = """{"items": [
  {"metadata": {"name": "maleo-worker", "labels": {"maleo.dev/name": "drone-1"}}},
  {"metadata": {"name": "maleo-worker2", "labels": {"maleo.dev/name": "edge-1"}}}]}"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is PATH; `calls` in it has a line for each call."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("MALEO_PROVIDER", raising=False)
    monkeypatch.setattr(kind, "_KUBECONFIG", tmp_path / "kubeconfig")
    monkeypatch.setattr(kind.os, "geteuid", lambda: 0)
    return tmp_path


def _stand_in(folder: Path, name: str, body: str = "") -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n{body}\n', encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _all(folder: Path) -> None:
    (folder / "nodes.json").write_text(_NODES, encoding="utf-8")
    _stand_in(folder, "kind")
    _stand_in(folder, "ip")
    _stand_in(
        folder, "docker", 'case "$*" in *inspect*maleo-registry) echo 172.18.0.9;; *inspect*) echo 172.18.0.3;; esac'
    )
    _stand_in(folder, "kubectl", f'case "$*" in *podCIDR*) echo 10.244.2.0/24;; *) cat {folder}/nodes.json;; esac')


def _calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text(encoding="utf-8").splitlines()


def test_choice__own_cluster_then_kind_when_a_daemon_answers_then_devcluster(programs: Path) -> None:
    assert choose(None, kubeconfig=None) == "devcluster"
    _stand_in(programs, "docker", "exit 1")
    _stand_in(programs, "kind")
    assert choose(None, kubeconfig=None) == "devcluster"  # a client alone proves nothing
    _stand_in(programs, "docker")
    assert choose(None, kubeconfig=None) == "kind"
    assert choose("devcluster", kubeconfig=None) == "devcluster"
    assert choose(None, kubeconfig=Path("mine")) == "given"


def test_kind__is_created_once_and_told_apart_by_the_examples_names(programs: Path) -> None:
    _all(programs)
    found = Kind.bring_up(Path("kind-config.yaml"), lambda _text: None)
    assert (found.nodes, found.registry) == ({"drone-1": "maleo-worker", "edge-1": "maleo-worker2"}, "172.18.0.9:5000")
    calls = _calls(programs)
    assert "kind create cluster --name maleo --config kind-config.yaml --wait 180s" in calls
    assert "ip route replace 10.96.0.0/16 via 172.18.0.3" in calls
    _stand_in(programs, "kind", "echo maleo")
    (programs / "calls").unlink()
    Kind.bring_up(Path("kind-config.yaml"), lambda _text: None)
    assert not any("create cluster" in call for call in _calls(programs))


def test_kind__slows_both_directions_of_one_link(programs: Path) -> None:
    _all(programs)
    Kind.bring_up(Path("kind-config.yaml"), lambda _text: None).shape("drone-1", "edge-1", "8Mbit/s")
    rates = [call for call in _calls(programs) if "rate 8000000bit" in call]
    assert [call.split()[2] for call in rates] == ["maleo-worker", "maleo-worker2"]
    rules = [call for call in _calls(programs) if "filter add" in call and "exec maleo-worker " in call]
    assert [rule.split("match ip dst ")[1] for rule in rules] == [
        "172.18.0.3/32 flowid 1:2",
        "10.244.2.0/24 flowid 1:2",
    ]


def test_kind_that_fails__says_so_and_names_the_other_way(programs: Path) -> None:
    _all(programs)
    _stand_in(programs, "kind", "echo no space left >&2; exit 1")
    with pytest.raises(Unavailable, match=r"no space left\n.*MALEO_PROVIDER=devcluster"):
        Kind.bring_up(Path("kind-config.yaml"), lambda _text: None)


def test_own_cluster__says_what_it_must_be_told(programs: Path) -> None:
    with pytest.raises(NotGiven, match=r"needs IMAGES=\.\.\. SLOW=\.\.\. too"):
        Given(Path("mine"), images="", registry="10.0.0.1:5000", slow="").connect()
    _all(programs)
    told = Given(Path("mine"), "r.example/maleo/{}:1", "10.0.0.1:5000", f"{programs}/kind slow {{one}} {{bandwidth}}")
    found = told.connect()
    assert found.build_images(Path(), lambda _text: None)["agent"] == "r.example/maleo/agent:1"
    found.shape("drone-1", "edge-1", "8Mbit/s")
    assert _calls(programs)[-1] == "kind slow maleo-worker 8Mbit/s"
    assert found.what_to_try()[-1] == "make demo-down KUBECONFIG=mine"


def test_manifests__get_the_names_that_nodes_have_in_this_cluster() -> None:
    mission = {"metadata": {"name": "watch"}, "spec": {"input": {"node": "drone-1"}, "between": [{"node": "edge-1"}]}}
    renamed = rename(mission, {"drone-1": "maleo-worker", "edge-1": "maleo-worker2"})
    assert renamed["spec"] == {"input": {"node": "maleo-worker"}, "between": [{"node": "maleo-worker2"}]}


def test_kind__names_the_longest_step_until_it_is_there_and_leaves_nothing(programs: Path) -> None:
    _all(programs)
    assert "kind pulls its node image" in Kind.foresee()
    found = Kind.bring_up(Path("kind-config.yaml"), lambda _text: None)
    found.kubeconfig.touch()
    assert found.what_to_try()[1:] == ["docker kill maleo-worker2", "make demo-down"]
    _stand_in(programs, "kind", "echo maleo")
    assert Kind.foresee() == ""
    (programs / "calls").unlink()
    Kind.tear_down()
    assert _calls(programs) == [
        "kind delete cluster --name maleo",
        "docker rm --force maleo-registry",
        "ip route del 10.96.0.0/16",
    ]
    assert not (programs / "kubeconfig").exists()


def test_kind__nodes_lose_power_and_get_it_again(programs: Path) -> None:
    _all(programs)
    found = Kind.bring_up(Path("kind-config.yaml"), lambda _text: None)
    found.kill_node("edge-1")
    found.start_node("edge-1")
    assert _calls(programs)[-2:] == ["docker kill maleo-worker2", "docker start maleo-worker2"]


def test_own_cluster__only_loses_what_the_demo_put_there(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[tuple[Path, bool]] = []
    monkeypatch.setattr(given, "uninstall", lambda kubeconfig, *, crds: removed.append((kubeconfig, crds)))
    tear_down("given", Given(Path("mine"), images="", registry="", slow=""))
    assert removed == [(Path("mine"), True)]


def test_devcluster__names_what_is_not_cached_longest_first(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALEO_CACHE", str(programs / "cache"))
    monkeypatch.delenv("MALEO_BINARIES", raising=False)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    told = foresee("devcluster")
    assert told.startswith("not cached yet, longest first: the programs of Kubernetes (7 min")
    assert told.endswith("images (3 min)")
    sources = Sources.of()
    sources.cache.mkdir(parents=True)
    for name in ALL:
        _stand_in(sources.cache, name)
    assert foresee("devcluster") == "not cached yet, longest first: images (3 min)"
    for folder in ("buildah", "packages"):
        (programs / "cache/images" / folder).mkdir(parents=True)
    assert foresee("devcluster") == ""
