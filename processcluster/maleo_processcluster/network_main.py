"""Network process of a cluster of process nodes. Usage: `python -m maleo_processcluster.network_main SETTINGS`."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from aiohttp import web

from maleo_kube.client import Client
from maleo_processcluster.addresses import AddressPlan
from maleo_processcluster.mutual_tls import make_tls
from maleo_processcluster.network import Network
from maleo_processcluster.network_control import make_app
from maleo_processcluster.tunnel import Tunnel
from maleo_service import process
from maleo_service.process import BackgroundTasks, stop_on_signals


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Settings of the network process. Ports are those of the gateway; `gateway` maps them to `host`, `port`."""

    block: int
    kubeconfig: str
    gateway: dict[int, tuple[str, int]]
    control_port: int
    tunnel_port: int
    token: str
    authority: str
    certificate: str
    key: str


async def _run(settings: NetworkSettings) -> None:
    stopping, plan = stop_on_signals(), AddressPlan(settings.block)
    async with Client.from_kubeconfig(Path(settings.kubeconfig)) as client:
        network = Network(client, plan, settings.gateway)
        tls = make_tls(Path(settings.certificate), Path(settings.key), Path(settings.authority))
        tunnel = await Tunnel(plan).serve(settings.tunnel_port, tls)
        tasks = BackgroundTasks(stopping)
        tasks.start(network.run())
        await network.served.wait()
        runner = web.AppRunner(make_app(network.links, settings.token), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, plan.gateway, settings.control_port).start()
        await stopping.wait()
        await runner.cleanup()
        tunnel.close()
        await tasks.cancel()
        tasks.raise_failure()


def main() -> None:
    """Run the network until SIGTERM or SIGINT."""
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=NetworkSettings)
    process.run(partial(_run, settings))


if __name__ == "__main__":
    main()
