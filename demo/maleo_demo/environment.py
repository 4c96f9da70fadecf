"""Environment of the demo and of the tests on real nodes: a cluster with Maleo, the demo's fleet and its model."""

import asyncio
import shutil
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from maleo_api.manifests import dump
from maleo_cli.commands import model
from maleo_cli.commands.install import install
from maleo_cli.model import zoo
from maleo_demo.existing_cluster import ExistingCluster
from maleo_demo.kubectl import FLEET, declare
from maleo_demo.programs import Unavailable, run
from maleo_demo.provider import Provider, bring_up
from maleo_demo.steps import Steps

NAMESPACE: Final = "default"
MISSION: Final = "drone-surveillance"
OPERATOR: Final = "system:serviceaccount:maleo-system:maleo-operator"
_MODEL: Final = "squeezenet"
_SOURCE: Final = Path(__file__).resolve().parents[2]
_BUILD: Final = Path("build")
_FIRST_SPEED: Final = "100Mbit/s"
_READY_S: Final = 120
_KUBECTL_S: Final = 300.0
_NO_SHAPING: Final = (
    "links cannot be slowed: the kernel of the nodes lacks sch_htb or cls_u32: run `modprobe -a sch_htb cls_u32`, "
    "or run `make demo SLOW_LINK=no`, without the slow link and the move that it causes"
)


class NotReady(Exception):
    """A part of the environment did not become ready; the message contains the part and its own error."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Cluster with Maleo, and the files of the demo's model by variant."""

    cluster: Provider
    models: dict[str, Path]

    @classmethod
    def bring_up(
        cls, steps: Steps, provider: str, *, yes: bool, slow_link: bool = True, existing: ExistingCluster | None = None
    ) -> "Environment":
        """Create everything but the mission, and reuse what is up. Installing packages needs consent, unless `yes`.

        slow_link: limit the bandwidth of a link; if False, links are not changed. Raise Unavailable if it is True and
        the cluster cannot limit links.
        """
        with steps.step("cluster") as line:
            cluster = bring_up(provider, _SOURCE, steps.update, yes=yes, existing=existing)
            if slow_link:
                if not cluster.can_shape:
                    raise Unavailable(_NO_SHAPING)
                cluster.unshape()
                cluster.shape("drone-1", "edge-1", _FIRST_SPEED)
            line.note = f"{cluster.description}; kubeconfig: {cluster.kubeconfig}"
        if renamed := [f"{label} is {name}" for label, name in sorted(cluster.nodes.items()) if label != name]:
            steps.say(f"node names: {', '.join(renamed)}")
        with steps.step("images") as line:
            built = cluster.build_images(_SOURCE, steps.update)
            line.note = ", ".join(reference.rpartition("/")[2] for reference in built.values())
        self = cls(cluster, {})
        with steps.step("Maleo installed") as line:
            values = {"agent": {"registries": [cluster.listed_registry]}}
            install(cluster.kubeconfig, built, values=values, charts=_SOURCE / "charts", wait_s=_READY_S)
            line.note = "helm: maleo-crds, maleo"
        with steps.step("devices") as line:
            self.apply(_SOURCE / "examples/demo/devices.yaml")
            line.note = self._await_devices()
        with steps.step("model pushed") as line:
            files = zoo.make(_MODEL, _BUILD / "models").files
            line.note = self._apply_model(files)
        return cls(cluster, files)

    @property
    def kubeconfig(self) -> Path:
        """Return the path of the cluster's kubeconfig."""
        return self.cluster.kubeconfig

    def apply_mission(self) -> None:
        """Apply the mission, after deleting one left by an earlier run."""
        self.kubectl("delete", "mission", MISSION, "--ignore-not-found")
        self.apply(_SOURCE / "examples/demo/mission.yaml")

    def apply(self, file: Path) -> None:
        """Apply the manifests of `file`, with each Device named like its node in this cluster."""
        documents = [declare(doc, self.cluster.nodes) for doc in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
        path = _BUILD / "applied" / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(documents), encoding="utf-8")
        self.kubectl("apply", "-f", str(path))

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl and return its output. If it fails, raise NotReady, or return "" if `check` is False."""
        try:
            return run(self.cluster.kubectl, "--kubeconfig", str(self.kubeconfig), *arguments, timeout_s=_KUBECTL_S)
        except Unavailable as error:
            if check:
                raise NotReady(str(error)) from error
            return ""

    def reach(self, address: str) -> AbstractContextManager[str]:
        """Yield the address of the demo's mission for this machine. address: its address in the cluster."""
        return self.cluster.reach(NAMESPACE, MISSION, address)

    def describe_next_commands(self) -> str:
        """Return a text with environment variables and commands to try after the demo."""
        commands_ = [
            "kubectl get missions,placements,devices",
            f".venv/bin/maleo explain {MISSION}",
            *self.cluster.next_commands(),
        ]
        lines = "\n".join(f"  {command}" for command in commands_)
        program = Path(self.cluster.kubectl)
        path = f'  export PATH="$PATH:{program.parent}"\n' if shutil.which("kubectl") is None else ""
        exports = {
            "KUBECONFIG": str(self.kubeconfig.resolve()),
            "PUSH": f"oci://{self.cluster.push_registry}/models",
            "PULL": f"oci://{self.cluster.registry}/models",
        }
        variables = "\n".join(f"  export {name}={value}" for name, value in exports.items())
        return f"Try:\n{variables}\n{path}{lines}"

    def _await_devices(self) -> str:
        """Wait until every Device of the fleet is Ready and its node is labelled; return the labels as one line.

        Other nodes of the cluster are ignored. Raise NotReady after 120 s.
        """
        names = [self.cluster.nodes[label] for label in FLEET]
        deadline = time.monotonic() + _READY_S
        columns = "custom-columns=N:.metadata.name,P:.metadata.labels.maleo\\.dev/npu-product"
        while True:
            labelled = self.kubectl("get", "nodes", *names, "--no-headers", "-o", columns)
            ready = self.kubectl("get", "devices", "-o", "yaml")
            states = {
                item["metadata"]["name"]: {c["type"]: c["status"] for c in item.get("status", {}).get("conditions", [])}
                for item in yaml.safe_load(ready)["items"]
            }
            done = [n for n in names if states.get(n, {}).get("Ready") == "True"]
            if len(done) == len(names) and "<none>" not in labelled:
                return ", ".join(" ".join(line.split()) for line in labelled.splitlines())
            if time.monotonic() > deadline:
                raise NotReady(f"devices not Ready after {_READY_S} s: {states}; labels:\n{labelled}")
            time.sleep(0.3)

    def _apply_model(self, files: dict[str, Path]) -> str:
        variants = {variant: (variant, path) for variant, path in files.items()}
        push, pull = (f"oci://{host}/models/{_MODEL}" for host in (self.cluster.push_registry, self.cluster.registry))
        manifest = asyncio.run(model.build(_MODEL, variants, repository=push, pull_from=pull, accuracy={}))
        path = _BUILD / "models" / f"{_MODEL}.yaml"
        path.write_text(dump([manifest]), encoding="utf-8")
        self.kubectl("apply", "-f", str(path))
        first = manifest["spec"]["variants"][0]
        cuts = sum("cut" in block for block in first["blocks"])
        return f"{_MODEL} {first['artifacts'][0]['digest'][:19]}, {cuts} cuts outside fused kernels"
