"""Process of one process node. Usage: `python -m maleo_processcluster.node_main SETTINGS`, by the launcher."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from aiohttp import web

from maleo_kube.client import Client
from maleo_processcluster.addresses import AddressPlan, node_address
from maleo_processcluster.kubelet_api import make_runner
from maleo_processcluster.mutual_tls import make_tls
from maleo_processcluster.network import KUBELET_PORT
from maleo_processcluster.node_runner import NodeRunner, NodeSettings
from maleo_service import process
from maleo_service.process import BackgroundTasks, stop_on_signals


@dataclass(frozen=True, slots=True)
class NodeProcessSettings:
    """Settings of a node's process: its credentials, and the node itself."""

    block: int
    kubeconfig: str
    certificate: str
    key: str
    node: NodeSettings


async def _run(settings: NodeProcessSettings) -> None:
    stopping, plan = stop_on_signals(), AddressPlan(settings.block)
    async with Client.from_kubeconfig(Path(settings.kubeconfig)) as client:
        node = NodeRunner(client, settings.node, plan)
        api = make_runner(node.find_log)
        await api.setup()
        tls = make_tls(Path(settings.certificate), Path(settings.key), settings.node.authority)
        listen = plan.inner(node_address(settings.node.number))
        await web.TCPSite(api, listen, KUBELET_PORT, ssl_context=tls).start()
        tasks = BackgroundTasks(stopping)
        tasks.start(node.run())
        await stopping.wait()
        await tasks.cancel()
        await api.cleanup()
        tasks.raise_failure()


def main() -> None:
    """Run the node until SIGTERM or SIGINT."""
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=NodeProcessSettings, dec_hook=_decode)
    process.run(partial(_run, settings))


def _decode(kind: type, value: object) -> object:
    """Return the path that a text names."""
    return kind(value)


if __name__ == "__main__":
    main()
