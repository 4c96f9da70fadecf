"""`make demo`: the whole loop with real parts, ending in a report. `make demo-down` removes everything it made."""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

from maleo_api.quantities import RATE, parse
from maleo_cli.failure import Failure
from maleo_demo.audit import count_writes
from maleo_demo.environment import MISSION, NAMESPACE, OPERATOR, Environment, NotReady
from maleo_demo.given import Given, NotGiven
from maleo_demo.kind import Unavailable
from maleo_demo.kubectl import NoKubectl
from maleo_demo.load import Load, prepare_cases
from maleo_demo.observer import NotReached, Observer, Seen
from maleo_demo.provider import choose, foresee, tear_down
from maleo_demo.report import PlacementFacts, Report
from maleo_demo.steps import Steps
from maleo_kube.client import Client
from maleo_kube.resources import PLACEMENTS

_QUIET_S: Final = 60.0
_SETTLED_S: Final = 21.0  # two windows of the mission
_SLOW: Final = "11.5Mbit/s"
_REPORT: Final = Path("build/demo-report.json")


def _meets(seen: Seen) -> bool:
    return seen.condition("Ready") == "True" and seen.condition("LatencyMet") == "True"


async def _placement(client: Client, seen: Seen) -> dict[str, Any]:
    placements = await client.list(PLACEMENTS, namespace=NAMESPACE)
    return next(
        p for p in placements.items if p["spec"]["mission"] == MISSION and p["spec"]["revision"] == seen.revision
    )


async def _run_story(environment: Environment, steps: Steps, report: Report) -> None:
    """Serve, be quiet, slow the link, watch the drift and the move, be inside the objective again."""
    async with (
        Client.from_kubeconfig(environment.kubeconfig) as client,
        Observer.of(client, f"{NAMESPACE}/{MISSION}") as observer,
    ):
        with steps.step("mission placed") as line:
            environment.apply_mission()
            applied = time.time()
            placed = await observer.until(lambda s: s.revision > 0, what="a placement", timeout_s=90, since=applied)
            line.note = f"{placed.mission.status.mode}: {placed.mission.status.nodes}"
        load = await _prepare_load(environment, steps, placed)
        loading = asyncio.create_task(load.run())
        try:
            with steps.step("serving inside its MALE") as line:
                met = await observer.until(_meets, what="LatencyMet", timeout_s=120, since=applied)
                line.note = f"{met.mission.status.margins.latency if met.mission.status.margins else '?'} latency"
            with steps.step("figures have settled"):
                await observer.settle(quiet_s=_SETTLED_S, timeout_s=90)
            await _stay_quiet(environment, steps, report)
            first = observer.history[-1]
            split = await _placement(client, first)
            moved = await _disturb(environment, steps, observer, report)
            then = await _placement(client, moved)
        finally:
            load.stop()
            await loading
            report.count(load.samples)
        last = observer.history[-1].mission
        report.placements = [
            PlacementFacts.of(first.mission, split, load.samples),
            PlacementFacts.of(last, then, load.samples),
        ]
        report.moves = [move.to_api() for move in last.status.moves]


async def _prepare_load(environment: Environment, steps: Steps, placed: Seen) -> Load:
    with steps.step("right answers prepared"):
        input_name, output_name, cases = await asyncio.to_thread(prepare_cases, environment.models)
    spec = placed.mission.spec
    return Load(
        address=placed.mission.status.address,
        model=spec.model.name,
        rate=parse(RATE, spec.demand.rate),
        input_name=input_name,
        output_name=output_name,
        cases=cases,
    )


async def _disturb(environment: Environment, steps: Steps, observer: Observer, report: Report) -> Seen:
    """Slow the link; the status in which the objective is met again, on another revision."""
    before = observer.history[-1].revision
    steps.say(f"link drone-1 > edge-1 shaped to {_SLOW}")
    disturbed = time.time()
    environment.cluster.shape("drone-1", "edge-1", _SLOW)
    with steps.step("drift proved") as line:
        drifted = await observer.until(
            lambda s: s.condition("LatencyMet") == "False", what="the drift", timeout_s=150, since=disturbed
        )
        line.note = drifted.reason("LatencyMet")
    with steps.step("placed anew") as line:
        moved = await observer.until(
            lambda s: s.revision > before, what="a new placement", timeout_s=90, since=disturbed
        )
        line.note = f"{moved.mission.status.mode}: {moved.mission.status.nodes}, {moved.mission.status.variant}"
    with steps.step("objective met again") as line:
        met = await observer.until(
            lambda s: s.revision > before and _meets(s), what="LatencyMet", timeout_s=120, since=disturbed
        )
        line.note = met.reason("LatencyMet")
    report.drift = {
        "what": f"link drone-1 > edge-1 slowed to {_SLOW}",
        "condition": drifted.reason("LatencyMet"),
        "condition_s": round(drifted.at - disturbed, 2),
        "placement_s": round(moved.at - disturbed, 2),
        "met_s": round(met.at - disturbed, 2),
    }
    return met


async def _stay_quiet(environment: Environment, steps: Steps, report: Report) -> None:
    with steps.step("a quiet minute under load") as line:
        since = time.time()
        await asyncio.sleep(_QUIET_S)
        if environment.cluster.audit_log is None:
            line.note = "writes not counted: the API server's audit log is out of reach"
            return
        writes = count_writes(environment.cluster.audit_log, user=OPERATOR, since=since, until=time.time())
        report.quiet_minute = {"seconds": _QUIET_S, "writes": writes.total(), "by_kind": dict(writes)}
        line.note = f"{writes.total()} writes by the operator"


def _run_demo(provider: str, given: Given | None, *, yes: bool) -> int:
    print("Maleo demo: a fleet of four nodes, one mission, one slow link")
    steps, began = Steps(), time.monotonic()
    if ahead := foresee(provider):
        steps.say(ahead)
    environment = Environment.bring_up(steps, provider, yes=yes, given=given)
    report = Report(
        cluster=environment.cluster.description,
        simulated="NPUs are simulated (paced to declared profiles); cluster, models, requests and links are real.",
    )
    try:
        asyncio.run(_run_story(environment, steps, report))
    finally:
        report.seconds, report.total_s = steps.seconds, round(time.monotonic() - began, 2)
        report.write(_REPORT)
    print(f"\n{report.page()}\n\nReport: {_REPORT}\n\n{environment.what_to_try()}")
    return 0 if report.passed else 1


def main() -> None:
    """Exit code 0: shown; 1: it ran, and something did not hold; the report says what."""
    parser = argparse.ArgumentParser(prog="maleo-demo", description=__doc__)
    parser.add_argument("what", choices=["run", "down"])
    parser.add_argument("--yes", action="store_true", help="install packages and change sysctls without asking")
    parser.add_argument(
        "--provider", choices=["kind", "devcluster"], help="else kind when Docker answers, or devcluster"
    )
    own = parser.add_argument_group("a cluster of your own (docs/concepts/devcluster.md)")
    own.add_argument("--kubeconfig", type=Path, help="its kubeconfig")
    own.add_argument("--images", default="", help="pushed images, such as registry.example/maleo/{}:1")
    own.add_argument("--registry", default="", help="host:port that models are pushed to and pulled from")
    own.add_argument("--slow", default="", help="command that limits a link: words with {one} {other} {bandwidth}")
    told = parser.parse_args()
    if not told.kubeconfig and (told.images or told.registry or told.slow):
        parser.error(
            "whose images, registry and links? Name the cluster: make demo KUBECONFIG=path (--kubeconfig path)"
        )
    given = Given(told.kubeconfig, told.images, told.registry, told.slow) if told.kubeconfig else None
    provider = choose(told.provider, kubeconfig=told.kubeconfig)
    try:
        if told.what == "down":
            tear_down(provider, given)
        else:
            sys.exit(_run_demo(provider, given, yes=told.yes))
    except Failure as failure:
        print(f"maleo-demo: {failure}", file=sys.stderr)
        sys.exit(failure.exit_code)
    except (NotGiven, NoKubectl, Unavailable, NotReady, NotReached) as error:
        sys.exit(f"maleo-demo: {error}")


if __name__ == "__main__":
    main()
