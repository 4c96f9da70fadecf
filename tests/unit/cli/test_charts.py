"""Folder of the charts in a checkout and in an installed package, and values files."""

from pathlib import Path

import pytest

from maleo_cli import charts
from maleo_cli.charts import CHARTS, find_chart, locate, read_values
from maleo_cli.errors import Failure
from support.paths import ROOT


def test_charts__of_an_editable_installation_are_those_of_the_checkout() -> None:
    assert CHARTS == ROOT / "charts"
    assert find_chart(CHARTS, "maleo") == ROOT / "charts/maleo"


def test_charts__of_an_installed_package_are_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "files", lambda _package: tmp_path / "lib/maleo_cli")
    assert locate() == tmp_path / "charts"
    (tmp_path / "lib/maleo_cli/data/charts").mkdir(parents=True)
    assert locate() == tmp_path / "lib/maleo_cli/data/charts"


def test_folder_without_the_chart__is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no Helm chart found\n  pass the folder of the charts with --charts") as raised:
        find_chart(tmp_path, "maleo")
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(("text", "want"), [("a: {b: 1}\n", {"a": {"b": 1}}), ("", {}), ("# nothing\n", {})])
def test_values_file__is_read_as_a_mapping(tmp_path: Path, text: str, want: dict[str, object]) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text, encoding="utf-8")
    assert read_values(file) == want


@pytest.mark.parametrize("text", ["[1]", "a: b: c", "a: [\n", "text\n", None])
def test_values_file_that_is_not_a_mapping__is_a_usage_error(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "values.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(Failure, match="pass a YAML file with Helm values") as raised:
        read_values(file)
    assert raised.value.exit_code == 2
