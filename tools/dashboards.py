"""Grafana dashboards of the chart: `python tools/dashboards.py --write | --check`. Plain JSON of schema version 39."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parents[1] / "charts" / "maleo" / "dashboards"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 12
_HEIGHT: Final = 8
_M: Final = 'namespace=~"$namespace",mission=~"$mission"'
_OVER: Final = f"sum by (namespace, mission) (rate(maleo_mission_requests_over_limit_total{{{_M}}}[1m]))"
_ALL: Final = f"sum by (namespace, mission) (rate(maleo_mission_requests_total{{{_M}}}[1m]))"
_D: Final = 'node=~"$node"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph panel. queries: (PromQL, legend); unit: Grafana's name of the unit."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard. variables: name -> label_values query."""

    uid: str
    title: str
    variables: dict[str, str]
    panels: tuple[Panel, ...]


DASHBOARDS: Final = (
    Dashboard(
        "maleo-missions",
        "Maleo / Missions",
        {
            "namespace": "label_values(maleo_mission_margin_ratio, namespace)",
            "mission": 'label_values(maleo_mission_margin_ratio{namespace=~"$namespace"}, mission)',
        },
        (
            Panel(
                "Margins",
                "percentunit",
                ((f"maleo_mission_margin_ratio{{{_M}}}", "{{mission}} {{objective}}"),),
                "Signed relative distance to the limit of each objective; negative: violated.",
            ),
            Panel(
                "Latency at the entry",
                "s",
                (
                    (f"maleo_mission_latency_seconds{{{_M}}}", "{{mission}} {{quantile}}"),
                    (f"maleo_mission_latency_limit_seconds{{{_M}}}", "{{mission}} limit"),
                ),
                "Quantiles of the last window, measured end to end at the entry, and the limit of the objective.",
            ),
            Panel(
                "Requests over the latency limit",
                "percentunit",
                ((f"{_OVER} / {_ALL}", "{{mission}}"),),
                "Share of requests that exceeded the latency limit.",
            ),
            Panel("Request rate", "reqps", ((f"maleo_mission_request_rate_hertz{{{_M}}}", "{{mission}}"),)),
            Panel(
                "Requests by outcome",
                "reqps",
                (
                    (
                        f"sum by (mission, outcome) (rate(maleo_mission_requests_total{{{_M}}}[1m]))",
                        "{{mission}} {{outcome}}",
                    ),
                ),
                "failed: must be zero, also during moves; fallback: answered by the entry while a partner was lost.",
            ),
            Panel(
                "Moves",
                "short",
                (
                    (
                        f"sum by (mission, reason) (increase(maleo_mission_moves_total{{{_M}}}[5m]))",
                        "{{mission}} {{reason}}",
                    ),
                ),
                "Changes of the active revision in 5 minutes, by reason.",
            ),
            Panel(
                "Energy per inference",
                "joule",
                ((f"maleo_mission_energy_joules_per_inference{{{_M}}}", "{{mission}} {{basis}}"),),
            ),
            Panel("Warm revisions", "short", ((f"maleo_mission_warm_revisions{{{_M}}}", "{{mission}} {{slot}}"),)),
            Panel(
                "Conditions",
                "bool",
                ((f"maleo_mission_condition{{{_M}}}", "{{mission}} {{type}}"),),
                "1: True, 0: False; no value while the condition is Unknown.",
            ),
        ),
    ),
    Dashboard(
        "maleo-devices",
        "Maleo / Devices",
        {"node": "label_values(maleo_agent_connected, node)"},
        (
            Panel("Power", "watt", ((f"maleo_unit_power_watts{{{_D}}}", "{{node}} {{unit}} {{basis}}"),)),
            Panel("Temperature", "celsius", ((f"maleo_unit_temperature_celsius{{{_D}}}", "{{node}} {{unit}}"),)),
            Panel("Utilization", "percentunit", ((f"maleo_unit_utilization_ratio{{{_D}}}", "{{node}} {{unit}}"),)),
            Panel(
                "Capacity",
                "percentunit",
                ((f"maleo_unit_capacity_ratio{{{_D}}}", "{{node}} {{unit}}"),),
                "Speed of a unit relative to normal; below 1 while it is throttled.",
            ),
            Panel(
                "Power from energy counters, by basis",
                "watt",
                (
                    (
                        f"sum by (node, unit, basis) (rate(maleo_unit_energy_joules_total{{{_D}}}[1m]))",
                        "{{node}} {{unit}} {{basis}}",
                    ),
                ),
            ),
            Panel("Battery", "percentunit", ((f"maleo_device_battery_ratio{{{_D}}}", "{{node}}"),)),
            Panel("Warm revisions", "short", ((f"maleo_device_warm_revisions{{{_D}}}", "{{node}}"),)),
            Panel(
                "Requests",
                "reqps",
                (
                    (
                        f"sum by (node, outcome) (rate(maleo_device_requests_total{{{_D}}}[1m]))",
                        "{{node}} {{outcome}}",
                    ),
                ),
                "At all entries of the node, also while its agent is not connected to the operator.",
            ),
            Panel("Connected to the operator", "bool", ((f"maleo_agent_connected{{{_D}}}", "{{node}}"),)),
        ),
    ),
)


def render(dashboard: Dashboard) -> str:
    panels = [_panel(number, panel) for number, panel in enumerate(dashboard.panels)]
    variables = [_variable(name, query) for name, query in dashboard.variables.items()]
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    document = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["maleo"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, *variables]},
        "panels": panels,
    }
    return json.dumps(document, indent=2) + "\n"


def files() -> dict[Path, str]:
    return {FOLDER / f"{d.uid.removeprefix('maleo-')}.json": render(d) for d in DASHBOARDS}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    place = {"x": number % 2 * _WIDTH, "y": number // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
    targets = [
        {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
        for at, (query, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": targets,
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> int:
    """Write or check the dashboards; return exit code 1 if --check found a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true")
    action.add_argument("--check", action="store_true")
    if parser.parse_args().write:
        for path, text in files().items():
            path.write_text(text, encoding="utf-8")
        return 0
    different = [path for path, text in files().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in different:
        sys.stderr.write(f"{path} differs: run `python tools/dashboards.py --write`\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
