"""The two charts of Maleo, with the hardware catalogue, and values files for them."""

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml

from maleo_cli.errors import Failure


def locate() -> Path:
    """Return the folder of the charts: package data of the wheel, else the folder of the checkout.

    Helm reads charts from a folder on disk, so a package in a ZIP file is not supported.
    """
    package = Path(str(files("maleo_cli")))
    packaged = package / "data" / "charts"
    return packaged if packaged.is_dir() else package.resolve().parents[1] / "charts"


CHARTS: Final = locate()


def find_chart(charts: Path, name: str) -> Path:
    """Return the folder of a chart. Raise Failure if there is none."""
    if not (charts / name / "Chart.yaml").is_file():
        raise Failure(
            f"{charts / name}: no Helm chart found", "pass the folder of the charts with --charts", exit_code=2
        )
    return charts / name


def read_values(path: Path) -> dict[str, Any]:
    """Return the chart values in a YAML file. Raise Failure if it cannot be read or is not a mapping."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise Failure(f"{path}: {error}", "pass a YAML file with Helm values", exit_code=2) from error
    if not isinstance(values, dict):
        raise Failure(f"{path}: not a mapping", "pass a YAML file with Helm values", exit_code=2)
    return values
