"""The cluster with Maleo on it and the demo's fleet and model: what the demo and the tests on real nodes stand on."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from maleo_api.manifests import dump
from maleo_cli.install import install
from maleo_cli.model import commands, zoo
from maleo_demo.given import Given
from maleo_demo.provider import Provider, bring_up
from maleo_demo.steps import Steps
from maleo_wire.registry import as_listed

NAMESPACE: Final = "default"
MISSION: Final = "drone-surveillance"
OPERATOR: Final = "system:serviceaccount:maleo-system:maleo-operator"
_MODEL: Final = "squeezenet"
_SOURCE: Final = Path(__file__).resolve().parents[2]
_BUILD: Final = Path("build")
_FIRST_SPEED: Final = "100Mbit/s"
_READY_S: Final = 120


class NotReady(Exception):
    """A part of the environment did not come up; the message says which, and what it says of itself."""


@dataclass(frozen=True, slots=True)
class Environment:
    cluster: Provider
    models: dict[str, Path]

    @classmethod
    def bring_up(cls, steps: Steps, provider: str, *, yes: bool, given: Given | None = None) -> "Environment":
        """Everything but the mission; what is up already stays. Missing packages are asked for."""
        with steps.step("cluster") as line:
            cluster = bring_up(provider, _SOURCE, steps.tell, yes=yes, given=given)
            cluster.unshape()
            cluster.shape("drone-1", "edge-1", _FIRST_SPEED)
            line.note = f"{cluster.description}; kubeconfig: {cluster.kubeconfig}"
        with steps.step("images") as line:
            built = cluster.build_images(_SOURCE, steps.tell)
            line.note = ", ".join(reference.rpartition("/")[2] for reference in built.values())
        self = cls(cluster, {})
        with steps.step("Maleo installed") as line:
            values = {"agent": {"registries": [as_listed(cluster.registry)]}}
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
        return self.cluster.kubeconfig

    def apply_mission(self) -> None:
        """Anew: one that an earlier run left behind goes first."""
        self.kubectl("delete", "mission", MISSION, "--ignore-not-found")
        self.apply(_SOURCE / "examples/demo/mission.yaml")

    def apply(self, file: Path) -> None:
        """The manifests of `file`, with the names that its nodes have in this cluster."""
        documents = [rename(doc, self.cluster.nodes) for doc in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
        path = _BUILD / "applied" / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(documents), encoding="utf-8")
        self.kubectl("apply", "-f", str(path))

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Output of kubectl; NotReady with its error text."""
        done = subprocess.run(  # noqa: S603 - the cluster's own program
            [self.cluster.kubectl, "--kubeconfig", str(self.kubeconfig), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise NotReady(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def what_to_try(self) -> str:
        commands_ = [
            "kubectl get missions,placements,devices",
            f".venv/bin/maleo explain {MISSION}",
            *self.cluster.what_to_try(),
        ]
        lines = "\n".join(f"  {command}" for command in commands_)
        program = Path(self.cluster.kubectl)
        path = f'  export PATH="$PATH:{program.parent}"\n' if shutil.which("kubectl") is None else ""
        return f"Try:\n  export KUBECONFIG={self.kubeconfig.resolve()}\n{path}{lines}"

    def _await_devices(self) -> str:
        """Until every device is Ready and its node labelled."""
        names = list(self.cluster.nodes.values())
        deadline = time.monotonic() + _READY_S
        columns = "custom-columns=N:.metadata.name,P:.metadata.labels.maleo\\.dev/npu-product"
        while True:
            labelled = self.kubectl("get", "nodes", "--no-headers", "-o", columns)
            ready = self.kubectl("get", "devices", "-o", "yaml")
            states = {
                item["metadata"]["name"]: {c["type"]: c["status"] for c in item.get("status", {}).get("conditions", [])}
                for item in yaml.safe_load(ready)["items"]
            }
            done = [n for n in names if states.get(n, {}).get("Ready") == "True"]
            if len(done) == len(names) and "<none>" not in labelled:
                return ", ".join(" ".join(line.split()) for line in labelled.splitlines())
            if time.monotonic() > deadline:
                raise NotReady(f"devices are not ready: {states}; labels:\n{labelled}")
            time.sleep(0.3)

    def _apply_model(self, files: dict[str, Path]) -> str:
        variants = {variant: (variant, path) for variant, path in files.items()}
        repository = f"oci://{self.cluster.registry}/models/{_MODEL}"
        manifest = asyncio.run(commands.build(_MODEL, variants, repository=repository, accuracy={}))
        path = _BUILD / "models" / f"{_MODEL}.yaml"
        path.write_text(dump([manifest]), encoding="utf-8")
        self.kubectl("apply", "-f", str(path))
        first = manifest["spec"]["variants"][0]
        cuts = sum("cut" in block for block in first["blocks"])
        return f"{_MODEL} {first['artifacts'][0]['digest'][:19]}, {cuts} fusion-safe cuts"


def rename(value: Any, names: Mapping[str, str]) -> Any:
    """The same document, with every text that is a node's name in the examples replaced by its name here."""
    if isinstance(value, dict):
        return {key: rename(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [rename(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
