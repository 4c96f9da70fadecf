"""Run the demo (`make demo`): place, serve and move a mission on a real cluster, and print a report."""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

from maleo_api.mission import Mission
from maleo_api.quantities import BANDWIDTH, RATE, parse
from maleo_cli.errors import Failure
from maleo_demo.audit import count_writes
from maleo_demo.environment import MISSION, NAMESPACE, OPERATOR, Environment, NotReady
from maleo_demo.existing_cluster import ExistingCluster, InvalidSetting
from maleo_demo.load import LoadGenerator, prepare_cases
from maleo_demo.observer import NotReached, Observer, StatusSnapshot
from maleo_demo.programs import Unavailable
from maleo_demo.provider import NAMES, Choice, choose, current, describe_slow_steps, tear_down
from maleo_demo.report import PlacementFacts, Report
from maleo_demo.steps import Steps
from maleo_kube.client import Client
from maleo_kube.resources import PLACEMENTS

_QUIET_S: Final = 60.0
_QUIET_REPEATS: Final = 2
_SETTLED_S: Final = 21.0  # two windows of the mission
_SLOW_BANDWIDTH: Final = "11.5Mbit/s"
_INTERRUPTED: Final = 130  # shell convention for SIGINT
_NPUS: Final = "NPUs: slots compute on the CPU, paced to declared profiles."
_REPORT: Final = Path("build/demo-report.json")


def _meets_objective(snapshot: StatusSnapshot) -> bool:
    return snapshot.condition("Ready") == "True" and snapshot.condition("LatencyMet") == "True"


async def _placement(client: Client, snapshot: StatusSnapshot) -> dict[str, Any]:
    placements = await client.list(PLACEMENTS, namespace=NAMESPACE)
    return next(
        p for p in placements.items if p["spec"]["mission"] == MISSION and p["spec"]["revision"] == snapshot.revision
    )


async def _run_story(environment: Environment, steps: Steps, report: Report, *, slow_link: bool) -> None:
    """Place the mission, serve load and count writes; with `slow_link`, also slow a link and await the re-placement."""
    async with (
        Client.from_kubeconfig(environment.kubeconfig) as client,
        Observer.of(client, f"{NAMESPACE}/{MISSION}") as observer,
    ):
        with steps.step("mission placed") as line:
            environment.apply_mission()
            applied = time.time()
            placed = await observer.await_status(
                lambda s: s.revision > 0, what="a placement", timeout_s=90, since=applied
            )
            line.note = f"{placed.mission.status.mode}: {placed.mission.status.nodes}"
        with steps.step("mission ready"):
            placed = await observer.await_status(
                lambda s: s.condition("Ready") == "True", what="Ready", timeout_s=90, since=applied
            )
        with environment.reach(placed.mission.status.address) as address:
            report.route = "" if address == placed.mission.status.address else "kubectl proxy and the API server"
            load = await _prepare_load(environment, steps, placed, address)
            loading = asyncio.create_task(load.run())
            shown: list[tuple[Mission, dict[str, Any]]] = []
            try:
                await _watch(environment, steps, observer, report, applied)
                shown.append((observer.history[-1].mission, await _placement(client, observer.history[-1])))
                if slow_link:
                    moved = await _slow_link(environment, steps, observer, report)
                    shown.append((moved.mission, await _placement(client, moved)))
            finally:
                load.stop()
                await loading
                report.count(load.samples, since=steps.began_at)
        if slow_link:
            shown[-1] = (observer.history[-1].mission, shown[-1][1])
        report.placements = [PlacementFacts.of(mission, placement, load.samples) for mission, placement in shown]
        report.moves = [move.to_api() for move in observer.history[-1].mission.status.moves]


async def _watch(environment: Environment, steps: Steps, observer: Observer, report: Report, applied: float) -> None:
    """Wait until the mission meets its objectives and its status is stable, then count the writes of a quiet minute.

    applied: Unix time at which the mission was applied.
    """
    with steps.step("objectives met") as line:
        met = await observer.await_status(_meets_objective, what="LatencyMet", timeout_s=120, since=applied)
        line.note = f"latency margin {met.mission.status.margins.latency if met.mission.status.margins else '?'}"
    with steps.step("status settled"):
        await observer.await_quiet(quiet_s=_SETTLED_S, timeout_s=90)
    await _count_quiet_writes(environment, steps, observer, report)


async def _prepare_load(environment: Environment, steps: Steps, placed: StatusSnapshot, address: str) -> LoadGenerator:
    with steps.step("reference outputs computed"):
        input_name, output_name, cases = await asyncio.to_thread(prepare_cases, environment.models)
    spec = placed.mission.spec
    return LoadGenerator(
        address=address,
        model=spec.model.name,
        rate=parse(RATE, spec.demand.rate),
        input_name=input_name,
        output_name=output_name,
        cases=cases,
    )


async def _slow_link(environment: Environment, steps: Steps, observer: Observer, report: Report) -> StatusSnapshot:
    """Slow the link; return the status in which another revision meets the objective."""
    before = observer.history[-1].revision
    steps.say(f"link drone-1 > edge-1 shaped to {_SLOW_BANDWIDTH}")
    slowed_at = time.time()
    environment.cluster.shape("drone-1", "edge-1", _SLOW_BANDWIDTH)
    with steps.step("drift proved") as line:
        drifted = await observer.await_status(
            lambda s: s.condition("LatencyMet") == "False", what="LatencyMet=False", timeout_s=150, since=slowed_at
        )
        line.note = drifted.reason("LatencyMet")
    with steps.step("mission moved") as line:
        moved = await observer.await_status(
            lambda s: s.revision > before, what="a new placement", timeout_s=90, since=slowed_at
        )
        line.note = f"{moved.mission.status.mode}: {moved.mission.status.nodes}, {moved.mission.status.variant}"
    with steps.step("objective met again") as line:
        met = await observer.await_status(
            lambda s: s.revision > before and _meets_objective(s), what="LatencyMet", timeout_s=120, since=slowed_at
        )
        line.note = met.reason("LatencyMet")
    report.drift = {
        "what": f"link drone-1 > edge-1 slowed to {_SLOW_BANDWIDTH}",
        "condition": drifted.reason("LatencyMet"),
        "condition_s": round(drifted.at - slowed_at, 2),
        "placement_s": round(moved.at - slowed_at, 2),
        "met_s": round(met.at - slowed_at, 2),
    }
    return met


async def _count_quiet_writes(environment: Environment, steps: Steps, observer: Observer, report: Report) -> None:
    """Count the operator's writes in a minute without news about the mission.

    On a busy machine latency does change, and the operator must report that: such a minute is repeated, at most
    `_QUIET_REPEATS` times.
    """
    with steps.step("quiet minute under load") as line:
        while True:
            since, before = time.time(), observer.history[-1].reported
            await asyncio.sleep(_QUIET_S)
            is_quiet = all(snapshot.reported == before for snapshot in observer.history if snapshot.at >= since)
            if is_quiet or report.minutes_with_news == _QUIET_REPEATS:
                break
            report.minutes_with_news += 1
        log = list(environment.cluster.audit_lines())
        if not log:
            line.note = "writes not counted: no access to the audit log of the API server"
            return
        writes = count_writes(log, user=OPERATOR, since=since, until=time.time())
        report.quiet_minute = {"seconds": _QUIET_S, "writes": writes.total(), "by_kind": dict(writes)}
        line.note = f"{writes.total()} writes by the operator"


def _run_demo(choice: Choice, existing: ExistingCluster | None, *, yes: bool, slow_link: bool) -> int:
    print("Maleo demo: a fleet of four nodes, one mission, one slow link")
    steps, start = Steps(), time.monotonic()
    steps.say(choice.reason)
    if choice.more_real:
        steps.say(f"more real: {choice.more_real}")
    if slow_steps := describe_slow_steps(choice.name):
        steps.say(slow_steps)
    environment = Environment.bring_up(steps, choice.name, yes=yes, slow_link=slow_link, existing=existing)
    report = Report(
        cluster=environment.cluster.description,
        simulated=[_NPUS, *environment.cluster.simulated],
    )
    try:
        asyncio.run(_run_story(environment, steps, report, slow_link=slow_link))
    finally:
        report.seconds, report.total_s = steps.seconds, round(time.monotonic() - start, 2)
        report.write(_REPORT)
    print(f"\n{report.page()}\n\nReport: {_REPORT}\n\n{environment.describe_next_commands()}")
    return 0 if report.passed else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="maleo-demo", description=__doc__)
    verbs = parser.add_subparsers(dest="what", required=True)
    run = verbs.add_parser("run", help="run the demo; the cluster stays up")
    run.add_argument("--yes", action="store_true", help="install packages and change sysctls without asking")
    run.add_argument("--no-slow-link", action="store_true", help="for kernels without sch_htb or cls_u32")
    down = verbs.add_parser("down", help="remove everything that the demo created")
    for verb in (run, down):
        verb.add_argument("--provider", choices=NAMES, help="default: the first that this machine supports")
        own = verb.add_argument_group("existing cluster (docs/concepts/clusters.md)")
        own.add_argument("--kubeconfig", type=Path, help="kubeconfig of the cluster")
        own.add_argument("--images", default="", help="pushed images, for example registry.example/maleo/{}:1")
        own.add_argument("--registry", default="", help="host:port of the registry from which nodes pull models")
        own.add_argument("--push-registry", default="", help="host:port of it for this machine, if it differs")
        own.add_argument("--slow", default="", help="command that limits a link, with {one} {other} {bandwidth}")
    link = verbs.add_parser("link", help="set the bandwidth of a link in both directions")
    link.add_argument("between", nargs=2, metavar="NODE", help="label maleo.dev/name of the node")
    link.add_argument("speed", help="for example 100Mbit/s")
    for name, help_ in (("kill", "simulate a power loss of a node"), ("start", "start a killed node again")):
        verbs.add_parser(name, help=help_).add_argument("node", help="label maleo.dev/name of the node")
    arguments = parser.parse_args()
    options = ("images", "registry", "push_registry", "slow")
    if not getattr(arguments, "kubeconfig", True) and any(getattr(arguments, name) for name in options):
        parser.error("options of an existing cluster require make demo KUBECONFIG=path (--kubeconfig path)")
    return arguments


def _run_or_remove(arguments: argparse.Namespace) -> int:
    existing = None
    if arguments.kubeconfig:
        existing = ExistingCluster(
            arguments.kubeconfig, arguments.images, arguments.registry, arguments.slow, arguments.push_registry
        )
    choice = choose(arguments.provider, kubeconfig=arguments.kubeconfig)
    if arguments.what == "run":
        return _run_demo(choice, existing, yes=arguments.yes, slow_link=not arguments.no_slow_link)
    if message := tear_down(choice.name, existing):
        print(message)
    return 0


def _change(arguments: argparse.Namespace) -> int:
    """Apply one fault or link speed to the cluster of the last demo. Raise Unavailable, InvalidSetting."""
    cluster = current()
    names = arguments.between if arguments.what == "link" else [arguments.node]
    if unknown := [name for name in names if name not in cluster.nodes]:
        raise Unavailable(f"unknown node {unknown[0]!r}: the nodes are {', '.join(sorted(cluster.nodes))}")
    if arguments.what == "link":
        a, b = arguments.between
        if a == b or not _parse_bandwidth(arguments.speed):
            raise InvalidSetting("a link has two nodes and a speed above 0; `make demo-kill` disconnects a node")
        cluster.shape(a, b, arguments.speed)
    elif arguments.what == "kill":
        cluster.kill_node(arguments.node)
    else:
        cluster.start_node(arguments.node)
    return 0


def _parse_bandwidth(text: str) -> float:
    """Return a bandwidth in bytes per second. Raise InvalidSetting."""
    try:
        return parse(BANDWIDTH, text)
    except ValueError as error:
        raise InvalidSetting(f"speed {error}") from error


def main() -> None:
    """Run the command line. Exit code 0: every check passed; 1: a check failed, or an error; 130: interrupted."""
    arguments = _parse()
    try:
        sys.exit(_run_or_remove(arguments) if arguments.what in {"run", "down"} else _change(arguments))
    except Failure as failure:
        print(f"maleo-demo: {failure}", file=sys.stderr)
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        print("maleo-demo: interrupted; `make demo` continues, `make demo-down` removes the cluster", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except (InvalidSetting, Unavailable, NotReady, NotReached) as error:
        sys.exit(f"maleo-demo: {error}")


if __name__ == "__main__":
    main()
