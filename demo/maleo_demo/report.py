"""Report of the demo: a page for the terminal, and the same as JSON."""

import json
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from maleo_api.mission import Mission, Quantity
from maleo_demo.load import Sample, percentile

_COLUMNS: Final = 100


def _to_dict(quantity: Quantity | None) -> dict[str, str] | None:
    return {"value": quantity.value, "basis": quantity.basis} if quantity else None


@dataclass(frozen=True, slots=True)
class PlacementFacts:
    """One revision in service: predictions of the plan, measurements of the entry and of the client."""

    revision: int
    mode: str
    variant: str
    nodes: str
    cut: list[str]  # `drone-1 [0..7]`, in the order of the data flow
    predicted: dict[str, Any]
    observed: dict[str, Any]
    client: dict[str, float | int | None]  # seconds, at the client

    @classmethod
    def of(cls, mission: Mission, placement: dict[str, Any], samples: list[Sample]) -> "PlacementFacts":
        """Collect the facts of a Placement from the mission's status and the samples of its revision."""
        status, spec = mission.status, placement["spec"]
        predicted, observed = status.predicted, status.observed
        revision = int(spec["revision"])
        own = [s for s in samples if s.revision == revision]
        return cls(
            revision=revision,
            mode=spec["mode"],
            variant=spec["variant"],
            nodes=status.nodes,
            cut=[f"{p['node']} [{p['span']['first']}..{p['span']['last']}]" for p in spec["partitions"]],
            predicted={
                "p50": _to_dict(predicted.latency_mean),  # predicted times are symmetric: the median is the mean
                "p95": _to_dict(predicted.latency),
                "energy": _to_dict(predicted.energy),
                "accuracy": _to_dict(predicted.accuracy),
            }
            if predicted
            else {},
            observed={
                "p50": _to_dict(observed.latency_p50),
                "p95": _to_dict(observed.latency),
                "energy": _to_dict(observed.energy),
                "samples": observed.samples,
            }
            if observed
            else {},
            client={"requests": len(own), "p50": percentile(own, 50), "p95": percentile(own, 95)},
        )


@dataclass
class Report:
    """Content of `build/demo-report.json`: durations in seconds, figures of the API as strings with unit and basis."""

    cluster: str
    simulated: list[str]
    route: str = ""  # proxies between client and Service; empty if none
    seconds: dict[str, float] = field(default_factory=dict)  # by phase
    total_s: float = 0.0
    first_answer_s: float | None = None  # from the start of the demo; None without an answer
    requests: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)  # at most 10, as examples
    placements: list[PlacementFacts] = field(default_factory=list)
    drift: dict[str, Any] = field(default_factory=dict)
    moves: list[dict[str, Any]] = field(default_factory=list)
    quiet_minute: dict[str, Any] = field(default_factory=dict)  # empty: writes could not be counted
    minutes_with_news: int = 0  # minutes repeated because margins or conditions changed

    def count(self, samples: list[Sample], *, since: float) -> None:
        """Count the samples, and keep the first failures as examples. since: Unix time of the start of the demo."""
        answered = [sample.sent_at + sample.seconds for sample in samples if not sample.error]
        self.first_answer_s = round(min(answered) - since, 2) if answered else None
        failed = [s for s in samples if s.error]
        wrong = [s for s in samples if s.wrong]
        self.requests = {"sent": len(samples), "failed": len(failed), "wrong": len(wrong)}
        self.failures = [s.error or s.wrong for s in [*failed, *wrong]][:10]

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
    def passed(self) -> bool:
        """Return True if every request was answered correctly and the quiet minute had no writes."""
        return (
            self.requests.get("sent", 0) > 0
            and self.requests["failed"] == 0
            and self.requests["wrong"] == 0
            and self.quiet_minute.get("writes", 0) == 0
        )

    def page(self) -> str:
        """Return the report as text of at most 100 columns."""
        first = f", first answer after {self.first_answer_s:.0f} s" if self.first_answer_s is not None else ""
        lines = [
            f"Maleo demo on {self.cluster}, total time {self.total_s:.0f} s{first}.",
            *_label("Simulated", self.simulated),
            "",
        ]
        for facts in self.placements:
            lines += _describe(facts)
        lines.append("  A predicted p50 is the predicted mean: planning assumes symmetric distributions.")
        drift, requests, quiet = self.drift, self.requests, self.quiet_minute
        moves = ", ".join(f"r{m['fromRevision']} > r{m['toRevision']} {m['reason']}" for m in self.moves)
        lines += [""]
        if drift:
            lines += [
                f"Change         {drift['what']}",
                f"  drift proved {drift['condition_s']:6.1f} s later: {drift['condition']}",
                f"  moved        {drift['placement_s']:6.1f} s later",
                f"  objective met{drift['met_s']:6.1f} s later",
                "",
            ]
        else:
            lines += ["Change         none: the slow link was disabled, so there is no move to show", ""]
        lines += [
            f"Requests       {requests['sent']} sent, {requests['failed']} failed, {requests['wrong']} wrong",
            *(f"  {failure}" for failure in self.failures),
        ]
        if self.route:
            lines.append(f"  sent through {self.route}; observed values are measured at the mission's entry")
        lines.append(f"Moves          {moves or 'none'}")
        if quiet:
            lines.append(f"Operator       {quiet['writes']} API writes in a quiet minute under load")
            lines += [f"  {count} x {what}" for what, count in quiet["by_kind"].items()]
        if self.minutes_with_news:
            lines.append(f"  after {self.minutes_with_news} minute(s) in which margins or conditions changed")
        return "\n".join(part for line in lines for part in _wrap(line))


def _label(label: str, lines: list[str]) -> list[str]:
    """Return the lines in the second column, the first with a label in the first column."""
    return [f"{'' if number else label:<15}{line}" for number, line in enumerate(lines)]


def _wrap(line: str) -> list[str]:
    """Wrap the line at 100 columns; continuation lines are aligned with the second column."""
    if len(line) <= _COLUMNS:
        return [line]
    return textwrap.wrap(line, _COLUMNS, subsequent_indent=" " * 15, break_long_words=False)


def _describe(facts: PlacementFacts) -> list[str]:
    return [
        f"Revision {facts.revision}     {facts.mode}, {facts.variant}: {' > '.join(facts.cut)}",
        f"  predicted    {_line(facts.predicted)}",
        f"  observed     {_line(facts.observed)}",
    ]


def _line(figures: dict[str, Any]) -> str:
    shown = {name: figures.get(name) or {"value": "-", "basis": "Unknown"} for name in ("p50", "p95", "energy")}
    return ", ".join(f"{name} {figure['value']} {figure['basis']}" for name, figure in shown.items())
