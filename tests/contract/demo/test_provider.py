"""Choice of the cluster of the demo, and calls of kind and Docker, which are recorded by fake programs.

The same with a real kind: `make kind` (tests/kind).
"""

import json
import stat
from pathlib import Path
from typing import NoReturn

import pytest

from maleo_cli.errors import Failure
from maleo_demo import docker, existing_cluster, kind, record
from maleo_demo.environment import Environment
from maleo_demo.existing_cluster import ExistingCluster, InvalidSetting
from maleo_demo.kind import Kind
from maleo_demo.kubectl import FLEET, declare
from maleo_demo.processes import Processes
from maleo_demo.programs import Unavailable, run
from maleo_demo.provider import Choice, bring_up, choose, current, describe_slow_steps, tear_down
from maleo_demo.record import Record
from maleo_demo.steps import Steps
from maleo_devcluster import host
from maleo_devcluster.binaries import ALL, ROOTLESS, Sources
from support.paths import ROOT

_WORKERS = {label: f"maleo-worker{number or ''}" for number, label in zip((0, 2, 3, 4), FLEET, strict=True)}
_CONTAINERS = "\n".join(f"{name} running" for name in ["maleo-control-plane", *_WORKERS.values()])
_CONFIG = Path("kind-config.yaml")
# One `case` branch for each command line.
_DOCKER = """\
case "$*" in
  *"version --format {{json"*) echo '{"Components": [{"Name": "Engine"}]}';;
  *"version --format"*) echo amd64;;
  *"buildx version"*) exit 1;;
  *"ps --all --filter label=io.x-k8s"*) cat %(folder)s/containers;;
  *"ps --all --filter name=^maleo-registry"*) cat %(folder)s/registry;;
  *"--no-trunc"*) echo 0123abcd;;
  *"port maleo-registry"*) echo 127.0.0.1:49153;;
  *"ps --all --quiet --filter label=maleo.dev/demo"*) cat %(folder)s/mine;;
  *"image ls"*) cat %(folder)s/images;;
  *RepoDigests*) echo '["python@sha256:feed"]';;
  *"image inspect"*) exit 1;;
  *Config.Image*) echo kindest/node:v1.37.0@sha256:0123;;
  *inspect*) echo 172.18.0.3;;
esac"""
_KUBECTL = 'case "$*" in *podCIDR*) echo 10.244.2.0/24;; *"get nodes"*) cat %(folder)s/nodes.json;; esac'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on PATH with fake programs that succeed; its file `calls` has a line for each call."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("MALEO_PROVIDER", "KIND_IMAGE", "KIND_EXPERIMENTAL_PROVIDER", "DOCKER_BUILDKIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(kind, "_KUBECONFIG", tmp_path / "kubeconfig")
    monkeypatch.setattr(record, "PATH", tmp_path / "demo.json")
    for name in ("containers", "registry", "mine", "images"):
        (tmp_path / name).write_text("", encoding="utf-8")
    _write_nodes(tmp_path, _WORKERS)
    # Containers created by `kind create cluster` exist in later calls.
    _write_fake(tmp_path, "kind", 'case "$1 $2" in version*) echo kind v0.33.0 go1.26.8 linux/amd64;; '
                f'"create cluster") printf "%s\\n" "{_CONTAINERS}" > {tmp_path}/containers;; esac')  # fmt: skip
    _write_fake(tmp_path, "docker", _DOCKER % {"folder": tmp_path})
    _write_fake(tmp_path, "kubectl", _KUBECTL % {"folder": tmp_path})
    return tmp_path


def _write_fake(folder: Path, name: str, body: str = "") -> None:
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n{body}\n', encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _write_nodes(folder: Path, nodes: dict[str, str]) -> None:
    items = [{"metadata": {"name": name, "labels": {"maleo.dev/name": label}}} for label, name in nodes.items()]
    (folder / "nodes.json").write_text(json.dumps({"items": items}), encoding="utf-8")


def _set_containers(folder: Path, containers: str = _CONTAINERS) -> None:
    """Let a kind cluster named maleo exist."""
    (folder / "containers").write_text(containers + "\n", encoding="utf-8")


def _calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _bring_up() -> Kind:
    return Kind.bring_up(_CONFIG, lambda _text: None)


# Choice of the cluster


def _choose(name: str | None = None, *, kubeconfig: Path | None = None) -> str:
    return choose(name, kubeconfig=kubeconfig).name


def test_choice__prefers_existing_cluster_then_kind_then_devcluster_then_processes(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "find_obstacle", lambda: "")
    assert _choose() == "kind"
    assert _choose("devcluster") == "devcluster"
    assert _choose(kubeconfig=Path("mine")) == "existing"
    _write_fake(programs, "docker", "exit 1")
    assert _choose() == "devcluster"  # the client alone is not enough
    (programs / "kind").unlink()
    _write_fake(programs, "docker")
    assert _choose() == "devcluster"
    monkeypatch.setattr(host, "find_obstacle", lambda: "a devcluster requires root")
    assert _choose() == "processes"


def test_choice__says_why_and_what_would_be_more_real(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_obstacle", lambda: "a devcluster requires root")
    assert choose(None, kubeconfig=None) == Choice(
        "kind", "kind: a Docker daemon answers", "your own cluster: make demo KUBECONFIG=path"
    )
    _write_fake(programs, "docker", "exit 1")
    assert choose(None, kubeconfig=None) == Choice(
        "processes",
        "process nodes: no kind (no Docker daemon answers), no devcluster (a devcluster requires root)",
        "nodes with containers: start Docker and install kind, or use root in place of this user",
    )
    (programs / "kind").unlink()
    assert "no kind (kind not installed)" in choose(None, kubeconfig=None).reason
    assert choose("kind", kubeconfig=None) == Choice("kind", "kind: as requested")


def test_choice__keeps_the_running_cluster(programs: Path) -> None:
    """A change would leave the running cluster behind, or remove the wrong one."""
    Record("devcluster").write()
    assert _choose() == "devcluster"
    with pytest.raises(Unavailable, match=r"runs on devcluster: run `make demo-down` before using kind"):
        _choose("kind")
    with pytest.raises(Unavailable, match="unknown provider 'minikube': use one of kind, devcluster, processes"):
        _choose("minikube")


def test_cluster_that_cannot_start__leaves_the_choice_open(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is written before anything starts, so that a demo that is killed can be removed."""
    seen: list[Record | None] = []

    def fail(*_: object, **__: object) -> NoReturn:
        seen.append(Record.read())
        raise Failure("no such machine")

    monkeypatch.setattr(Processes, "bring_up", fail)
    with pytest.raises(Failure):
        bring_up("processes", ROOT, lambda _: None, yes=False)
    assert seen == [Record("processes")]
    assert Record.read() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"provider": "kind", "unknown": 1}'])
def test_unreadable_record__is_ignored(programs: Path, text: str) -> None:
    record.PATH.write_text(text, encoding="utf-8")
    assert Record.read() is None
    assert _choose() == "kind"
    with pytest.raises(InvalidSetting, match="no demo of this folder is running"):
        current()


# Creation of a kind cluster


def test_kind__is_created_once_without_root_and_with_a_separate_kubeconfig(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = programs / "mine-config"
    mine.write_text("current-context: production\n", encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(mine))
    found = _bring_up()
    assert (found.nodes, found.registry, found.push_registry) == (_WORKERS, "maleo-registry:5000", "127.0.0.1:49153")
    calls = _calls(programs)
    own = f"--kubeconfig {programs}/kubeconfig"
    assert f"kind create cluster --name maleo --config kind-config.yaml {own} --wait 180s" in calls
    assert all(own in call for call in calls if call.startswith(("kubectl", "kind create", "kind export")))
    assert not any(call.startswith(("ip ", "sudo ")) for call in calls)
    assert mine.read_text(encoding="utf-8") == "current-context: production\n"
    (programs / "calls").unlink()
    _bring_up()
    assert not any("create cluster" in call or "docker start" in call for call in _calls(programs))


def test_kind__uses_the_node_image_of_the_environment_variable(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIND_IMAGE", "kindest/node:v1.35.0")
    _bring_up()
    assert any(call.endswith("--image kindest/node:v1.35.0") for call in _calls(programs))


def test_kind__waits_for_the_nodes_of_the_fleet_only(programs: Path) -> None:
    """The control plane and nodes added by the user have no label of the fleet."""
    _set_containers(programs, f"{_CONTAINERS}\nmaleo-worker5 running")
    found = _bring_up()
    waited = next(call for call in _calls(programs) if "--for=condition=Ready" in call)
    assert {word for word in waited.split() if word.startswith("node/")} == {f"node/{n}" for n in _WORKERS.values()}
    assert set(found.nodes) == set(FLEET)


_MISSING = [
    ("docker", "docker is not on PATH"),
    ("kind", "kind is not on PATH"),
    ("kubectl", "kubectl is not on PATH"),
]


@pytest.mark.parametrize(("name", "why"), _MISSING)
def test_kind_with_a_missing_program__fails_before_creating_anything(
    programs: Path, name: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs))
    _link_system_programs(programs)
    (programs / name).unlink()
    with pytest.raises(Unavailable, match=why):
        _bring_up()
    _assert_nothing_created(programs)


def _link_system_programs(folder: Path) -> None:
    """Link the programs that the fake ones need, for a PATH without system folders."""
    for name in ("cat", "sh"):
        (folder / name).symlink_to(f"/bin/{name}")


def _assert_nothing_created(folder: Path) -> None:
    assert not [call for call in _calls(folder) if " create " in call or " run " in call or " start " in call]
    assert Record.read() is None


_OTHER_ENGINES = [
    ('{"Components": [{"Name": "Podman Engine"}]}', "amd64", r"is Podman, but the demo requires a Docker engine"),
    ('{"Components": [{"Name": "Engine"}]}', "riscv64", r"runs on riscv64, which Maleo has no images for"),
]


@pytest.mark.parametrize(("server", "architecture", "why"), _OTHER_ENGINES)
def test_kind_on_an_unsupported_engine__is_rejected(programs: Path, server: str, architecture: str, why: str) -> None:
    _write_fake(programs, "docker", f"case \"$*\" in *json*) echo '{server}';; *Arch*) echo {architecture};; esac")
    with pytest.raises(Unavailable, match=why):
        _bring_up()
    _assert_nothing_created(programs)


def test_kind_with_another_container_provider__is_rejected(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    with pytest.raises(Unavailable, match="unset KIND_EXPERIMENTAL_PROVIDER"):
        _bring_up()
    _assert_nothing_created(programs)


@pytest.mark.parametrize("version", ["kind v0.22.0 go1.20 linux/amd64", "kind version"])
def test_kind_with_an_old_version__is_rejected(programs: Path, version: str) -> None:
    _write_fake(programs, "kind", f"echo {version}")
    with pytest.raises(Unavailable, match=r"requires kind v0\.23 or newer, found: kind v"):
        _bring_up()
    _assert_nothing_created(programs)


def test_failed_creation_of_kind__is_reported_and_can_be_cleaned_up(programs: Path) -> None:
    _write_fake(programs, "kind", 'case "$1" in version) echo kind v0.33.0;; *) echo no space left >&2; exit 1;; esac')
    with pytest.raises(Unavailable, match=r"`kind create cluster .*` failed: no space left"):
        _bring_up()
    _set_containers(programs, "maleo-control-plane running")  # left by an interrupted creation
    _write_fake(programs, "kind")
    assert tear_down("kind") == ""
    assert any(call.startswith("kind delete cluster --name maleo") for call in _calls(programs))


def test_kind__replaces_a_cluster_whose_creation_was_interrupted(programs: Path) -> None:
    Record("kind", made="creating").write()
    _set_containers(programs, "maleo-worker running")
    _bring_up()
    calls = [call for call in _calls(programs) if call.startswith(("kind delete", "kind create"))]
    assert [call.split()[1] for call in calls] == ["delete", "create"]
    assert Record.read() == Record("kind", made="0123abcd")


def test_program_that_hangs_or_cannot_start__is_named_in_the_error(programs: Path) -> None:
    _write_fake(programs, "hangs", "exec sleep 60")
    with pytest.raises(Unavailable, match=r"`hangs now` did not finish within 0 s"):
        run("hangs", "now", timeout_s=0.2)
    with pytest.raises(Unavailable, match=r"`/dev/null` could not be started: Permission denied"):
        run("/dev/null")


# An existing kind cluster


def test_kind__starts_stopped_nodes_with_the_control_plane_first(programs: Path) -> None:
    _set_containers(
        programs, _CONTAINERS.replace("worker2 running", "worker2 exited").replace("plane running", "plane exited")
    )
    _bring_up()
    started = [call for call in _calls(programs) if call.startswith("docker start")]
    assert started == ["docker start maleo-control-plane", "docker start maleo-worker2"]
    exported = f"kind export kubeconfig --name maleo --kubeconfig {programs}/kubeconfig"
    assert _calls(programs).index(exported) > _calls(programs).index(started[-1])


_FOREIGN = [
    ("maleo-worker running", _WORKERS, r"`maleo` has no control plane: its creation was interrupted"),
    (_CONTAINERS, {}, r"no node with the label maleo\.dev/name=drone-1: it was not created from kind-config\.yaml"),
    (_CONTAINERS, {k: v for k, v in _WORKERS.items() if k != "edge-1"}, r"no node with the label .*=edge-1"),
]


@pytest.mark.parametrize(("containers", "nodes", "why"), _FOREIGN)
def test_kind_cluster_of_the_user__is_neither_used_nor_removed(
    programs: Path, containers: str, nodes: dict[str, str], why: str
) -> None:
    _set_containers(programs, containers)
    _write_nodes(programs, nodes)
    with pytest.raises(Unavailable, match=rf"{why}.*`kind delete cluster --name maleo` deletes it"):
        bring_up("kind", Path(), lambda _text: None, yes=False)
    assert "`maleo` is kept: `make demo` in this folder did not create it" in tear_down("kind")
    assert not any("delete" in call for call in _calls(programs))
    assert _choose("devcluster") == "devcluster", "no running demo blocks another provider"


def test_kind_cluster_recreated_by_the_user__is_not_removed(programs: Path) -> None:
    _bring_up()
    _write_fake(programs, "docker", _DOCKER.replace("0123abcd", "4567cdef") % {"folder": programs})
    assert "is kept" in tear_down("kind")
    assert not any("delete" in call for call in _calls(programs))


def test_duplicate_node_label__is_rejected(programs: Path) -> None:
    (programs / "nodes.json").write_text(
        json.dumps({"items": [{"metadata": {"name": n, "labels": {"maleo.dev/name": "drone-1"}}} for n in "ab"]})
    )
    with pytest.raises(Unavailable, match=r"nodes a and b both have the label maleo\.dev/name=drone-1"):
        _bring_up()


# Images, registry and links on kind


def test_kind__loads_images_on_the_nodes_that_need_them(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extra worker may run the operator but no slot; the control plane runs an agent only."""
    _set_containers(programs, f"{_CONTAINERS}\nmaleo-worker5 running")
    found = _bring_up()
    monkeypatch.setattr(docker.Builder, "prepare", lambda _self, component: (programs / component, "1234"))
    assert found.build_images(Path(), lambda _text: None)["slot"] == "maleo/slot:1234"
    loads = {c.split()[-1]: c.split()[-2].split(",") for c in _calls(programs) if c.startswith("kind load")}
    workers = [*_WORKERS.values(), "maleo-worker5"]
    assert loads == {
        "maleo/operator:1234": workers,
        "maleo/agent:1234": ["maleo-control-plane", *workers],
        "maleo/slot:1234": list(_WORKERS.values()),
    }


@pytest.mark.parametrize(
    ("buildx", "built"),
    [
        (
            "exit 1",
            "docker build --quiet --build-arg BASE=python@sha256:feed --label maleo.dev/demo=true --tag maleo/",
        ),
        (
            "exit 0",
            "docker buildx build --load --provenance=false --sbom=false --quiet --build-arg BASE=python@sha256:feed",
        ),
    ],
)
def test_images__are_built_in_a_form_that_kind_can_load(
    programs: Path, monkeypatch: pytest.MonkeyPatch, buildx: str, built: str
) -> None:
    body = _DOCKER.replace('*"buildx version"*) exit 1', f'*"buildx version"*) {buildx}')
    _write_fake(programs, "docker", body % {"folder": programs})
    monkeypatch.setattr(docker.Builder, "prepare", lambda _self, component: (programs / component, "1234"))
    messages: list[str] = []
    docker.build_images(Path(), messages.append)
    assert "base image: python@sha256:feed" in messages
    assert "docker pull --quiet python:3.11-slim" in _calls(programs)
    assert sum(call.startswith(built[:30]) for call in _calls(programs)) == 3
    assert any(call.startswith(built) for call in _calls(programs))
    (programs / "calls").unlink()
    _write_fake(
        programs, "docker", body.replace('*"image inspect"*) exit 1', '"image inspect"*) ') % {"folder": programs}
    )
    docker.build_images(Path(), lambda _text: None)
    assert not any(" build " in call for call in _calls(programs)), "existing images are not rebuilt"


def test_base_image_without_a_digest__is_used_if_it_was_built_locally(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = _DOCKER.replace("""echo '["python@sha256:feed"]'""", "echo null")
    body = body.replace('*"image inspect"*) exit 1', '*"image inspect python"*) ;; *"image inspect"*) exit 1')
    _write_fake(programs, "docker", body % {"folder": programs})
    monkeypatch.setattr(docker.Builder, "prepare", lambda _self, component: (programs / component, "1234"))
    messages: list[str] = []
    docker.build_images(Path(), messages.append)
    assert "base image: python:3.11-slim (built locally, without a digest)" in messages
    assert not any("pull" in call for call in _calls(programs))
    assert sum("BASE=python:3.11-slim " in call for call in _calls(programs)) == 3


@pytest.mark.parametrize(("architecture", "platform"), [("amd64", "x86_64"), ("arm64", "aarch64")])
def test_images__are_built_for_the_architecture_of_the_engine(programs: Path, architecture: str, platform: str) -> None:
    _write_fake(programs, "docker", f"echo {architecture}")
    assert docker.find_platform() == f"{platform}-manylinux_2_28"


def test_registry__is_created_restarted_or_kept(programs: Path) -> None:
    def start() -> list[str]:
        (programs / "calls").unlink(missing_ok=True)
        assert docker.start_registry(lambda _text: None) == ("127.0.0.1:49153", "maleo-registry:5000")
        return [call for call in _calls(programs) if call.startswith(("docker run", "docker start"))]

    (call,) = start()
    assert "--restart=always --publish 127.0.0.1::5000 registry:2.8.3" in call
    (programs / "registry").write_text("exited maleo.dev/demo=true\n")
    assert start() == ["docker start maleo-registry"]
    (programs / "registry").write_text("running a=b,maleo.dev/demo=true\n")
    assert start() == []
    (programs / "registry").write_text("running \n")
    with pytest.raises(Unavailable, match="container maleo-registry exists but was not created by the demo"):
        docker.start_registry(lambda _text: None)


def test_kind__limits_both_directions_of_one_link(programs: Path) -> None:
    _bring_up().shape("drone-1", "edge-1", "8Mbit/s")
    rates = [call for call in _calls(programs) if "rate 8000000bit" in call]
    assert [call.split()[2] for call in rates] == ["maleo-worker", "maleo-worker3"]
    rules = [call for call in _calls(programs) if "filter add dev eth0" in call and "exec maleo-worker " in call]
    assert [rule.split("match ip dst ")[1] for rule in rules] == [
        "172.18.0.3/32 flowid 1:2",
        "10.244.2.0/24 flowid 1:2",
    ]


def test_restarted_node__gets_its_link_speed_back(programs: Path) -> None:
    found = _bring_up()
    found.shape("drone-1", "edge-1", "8Mbit/s")
    found.kill_node("edge-1")
    (programs / "calls").unlink()
    found.start_node("gate-1")
    assert not any("tc" in call.split() for call in _calls(programs)), "its links were not limited"
    found.start_node("edge-1")
    calls = _calls(programs)
    assert len([call for call in calls if "rate 8000000bit" in call]) == 2, "its address may have changed: both ends"
    assert calls.index("docker start maleo-worker3") < next(i for i, c in enumerate(calls) if "8000000bit" in c)
    found.unshape()
    (programs / "calls").unlink()
    found.start_node("edge-1")
    assert not any("8000000bit" in call for call in _calls(programs))


def test_kernel_without_traffic_control__is_reported_before_the_demo_starts(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = _DOCKER.replace(
        'case "$*" in', 'case "$*" in\n  *" tc qdisc add "*) echo Specified qdisc kind >&2; exit 2;;'
    )
    _write_fake(programs, "docker", body % {"folder": programs})
    with pytest.raises(Unavailable, match=r"lacks sch_htb or cls_u32.*or run `make demo SLOW_LINK=no`"):
        Environment.bring_up(Steps(), "kind", yes=False)
    capsys.readouterr()
    with pytest.raises(Unavailable, match=r"cannot limit the links of maleo-worker: .*Specified qdisc"):
        _bring_up().shape("drone-1", "edge-1", "8Mbit/s")


# Messages and cleanup on kind


def test_kind__describes_its_slow_step_and_removes_everything(programs: Path) -> None:
    assert "the node image of kind" in Kind.describe_slow_steps()
    found = _bring_up()
    assert found.description == "a kind cluster of 4 nodes (kindest/node:v1.37.0)"
    found.kubeconfig.touch()
    assert found.next_commands() == ["make demo-link SPEED=100Mbit/s", "make demo-kill NODE=edge-1", "make demo-down"]
    assert Kind.describe_slow_steps() == ""
    (programs / "mine").write_text("c1\n")
    (programs / "images").write_text("i1\ni1\ni2\n")
    (programs / "calls").unlink()
    assert tear_down("kind") == ""
    removed = [call for call in _calls(programs) if " rm " in call or "delete" in call]
    assert removed == [
        "docker rm --force --volumes c1",
        "docker image rm --force i1 i2",
        f"kind delete cluster --name maleo --kubeconfig {programs}/kubeconfig",
    ]
    assert not (programs / "kubeconfig").exists()
    assert Record.read() is None


def test_kind__reads_the_audit_log_if_there_is_one(programs: Path) -> None:
    found = _bring_up()
    body = 'case "$*" in *"cat /var/log/kubernetes/audit.log") echo one; echo two;; esac\n'
    _write_fake(programs, "docker", body)
    assert found.audit_lines() == ["one", "two"]
    _write_fake(programs, "docker", "echo no such file >&2; exit 1")
    assert found.audit_lines() == []


def test_mission__is_reached_through_the_proxy_of_the_api_server(programs: Path) -> None:
    found = _bring_up()
    _write_fake(programs, "kubectl", 'echo "Starting to serve on 127.0.0.1:43210"; exec sleep 60')
    path = "api/v1/namespaces/default/services/watch:http/proxy"
    with found.reach("default", "watch", "10.96.0.7:80") as address:
        assert address == f"127.0.0.1:43210/{path}"
    assert _calls(programs)[-1].endswith(f"proxy --port=0 --accept-paths=^/{path}/")
    _write_fake(programs, "kubectl", "echo error: no configuration >&2; exit 1")
    with pytest.raises(Unavailable, match="no configuration"), found.reach("default", "watch", ""):
        pass


# An existing cluster


def _existing(slow: str, push: str = "") -> ExistingCluster:
    return ExistingCluster(Path("mine"), "r.example/maleo/{}:1", "10.0.0.1:5000", slow, push)


def test_existing_cluster__requires_its_settings_and_node_labels(programs: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"requires IMAGES=\.\.\. SLOW=\.\.\.: see docs"):
        ExistingCluster(Path("mine"), images="", registry="10.0.0.1:5000", link_command="").connect()
    found = _existing(f"{programs}/kind slow {{one}} {{bandwidth}}").connect()
    assert found.build_images(Path(), lambda _text: None)["agent"] == "r.example/maleo/agent:1"
    found.shape("drone-1", "edge-1", "8Mbit/s")
    assert _calls(programs)[-1] == "kind slow maleo-worker 8Mbit/s"
    assert found.next_commands()[-1] == "make demo-down KUBECONFIG=mine"
    assert (found.registry, found.push_registry) == ("10.0.0.1:5000", "10.0.0.1:5000")
    assert _existing("true", "localhost:5000").connect().push_registry == "localhost:5000"
    _write_nodes(programs, {k: v for k, v in _WORKERS.items() if k != "gate-1"})
    with pytest.raises(InvalidSetting, match=r"no node has the label maleo\.dev/name=gate-1: label four nodes"):
        found.connect()


_BAD_COMMANDS = [
    ("false {one}", r"SLOW='false \{one\}': `false maleo-worker` failed.*correct the command"),
    ("/nowhere/slow", r"could not be started: No such file"),
]


@pytest.mark.parametrize(("slow", "why"), _BAD_COMMANDS)
def test_existing_cluster__reports_a_failed_link_command(programs: Path, slow: str, why: str) -> None:
    found = _existing(slow).connect()
    with pytest.raises(InvalidSetting, match=why):
        found.shape("drone-1", "edge-1", "8Mbit/s")


@pytest.mark.parametrize("slow", ["ssh {two}", "ssh {", "ssh '{one}", "ssh {0}"])
def test_existing_cluster__rejects_an_invalid_link_command(programs: Path, slow: str) -> None:
    with pytest.raises(InvalidSetting, match=r"is invalid .* write a command with \{one\} \{other\} \{bandwidth\}"):
        _existing(slow).connect()


def test_existing_cluster__is_only_uninstalled(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[tuple[Path, bool]] = []
    monkeypatch.setattr(existing_cluster, "uninstall", lambda kubeconfig, *, crds: removed.append((kubeconfig, crds)))
    Record("kind").write()
    assert tear_down("existing", ExistingCluster(Path("mine"), images="", registry="", link_command="")) == ""
    assert removed == [(Path("mine"), True)]
    assert Record.read() == Record("kind"), "another demo may be running"


# Names of devices, and the devcluster


def test_devices__are_renamed_to_their_nodes_and_other_objects_are_unchanged() -> None:
    device = {"kind": "Device", "metadata": {"name": "drone-1"}, "spec": {"nodeName": "drone-1", "declared": []}}
    declared = declare(device, _WORKERS)
    assert declared["metadata"]["name"] == declared["spec"]["nodeName"] == "maleo-worker"
    assert declared["spec"]["declared"] == []
    mission = {"kind": "Mission", "metadata": {"name": "drone-1"}, "spec": {"input": {"selector": {"a": "drone-1"}}}}
    assert declare(mission, _WORKERS) == mission
    extra = device | {"metadata": {"name": "x"}, "spec": {"nodeName": "x"}}
    assert declare(extra, _WORKERS) == extra


def test_devcluster__lists_uncached_steps_slowest_first(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALEO_CACHE", str(programs / "cache"))
    monkeypatch.delenv("MALEO_BINARIES", raising=False)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    description = describe_slow_steps("devcluster")
    assert description.startswith("not cached yet, slowest first: Kubernetes binaries (7 min")
    assert description.endswith("images (3 min)")
    sources = Sources.of()
    sources.cache.mkdir(parents=True)
    for name in ALL:
        _write_fake(sources.cache, name)
    assert describe_slow_steps("devcluster") == "not cached yet, slowest first: images (3 min)"
    for folder in ("buildah", "packages"):
        (programs / "cache/images" / folder).mkdir(parents=True)
    assert describe_slow_steps("devcluster") == ""


def test_processes__list_missing_programs(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALEO_CACHE", str(programs / "cache"))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("MALEO_BINARIES", raising=False)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    assert describe_slow_steps("processes").startswith("not cached yet: Kubernetes binaries (")
    sources = Sources.of()
    sources.cache.mkdir(parents=True)
    for name in ROOTLESS:
        _write_fake(sources.cache, name)
    assert describe_slow_steps("processes") == ""
