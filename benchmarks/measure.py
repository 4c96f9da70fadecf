"""Shared code of the benchmarks: percentiles, and result files with the ratio to the baseline of the same run."""

import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

OUT = Path("build/benchmarks")


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return p50, p95 and p99 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50_ms": round(cuts[49] * 1e3, 3), "p95_ms": round(cuts[94] * 1e3, 3), "p99_ms": round(cuts[98] * 1e3, 3)}


def report(name: str, rows: list[dict[str, Any]], *, baseline: str) -> None:
    """Print the rows and write build/benchmarks/NAME.json. baseline: what `ratio` is relative to."""
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}
    OUT.mkdir(parents=True, exist_ok=True)
    result = {"name": name, "baseline": baseline, "machine": machine, "rows": rows}
    (OUT / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{name} (baseline of ratio: {baseline})")
    for row in rows:
        print("  " + "  ".join(f"{key}={value}" for key, value in row.items()))
