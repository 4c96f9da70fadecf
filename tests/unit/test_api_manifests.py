"""Reading people's files: what is taken, and what every mistake says."""

from pathlib import Path

import pytest

from maleo_api.manifests import ManifestError, load
from maleo_api.mission import Mission
from maleo_operator.planning.snapshot import from_manifests

_HEAD = "apiVersion: maleo.dev/v1alpha1\nkind: Mission\nmetadata: {name: cctv}\n"
_SPEC = "spec: {model: {name: m}, input: {node: n1}, objectives: {latency: {atMost: 50ms}}}\n"
_UNIT = "no duration: write a number with its unit, for example 50ms"
_TWICE = "already defined in m.yaml: doc 1 Mission/cctv: rename or remove it"


def _mistakes(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        load([tmp_path])
    return [mistake.replace(f"{tmp_path}/", "") for mistake in caught.value.mistakes]


def test_load__reads_folders_documents_lists_and_nodes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text(_HEAD + _SPEC + "---\n", encoding="utf-8")
    (tmp_path / "b.yml").write_text(
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: Node, metadata: {name: n1, labels: {maleo.dev/site: a}}, status: {phase: x}}\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: default}}\n",
        encoding="utf-8",
    )
    manifests = load([tmp_path])
    assert manifests.of(Mission)["default/cctv"].spec.objectives.latency is not None
    assert manifests.nodes["n1"].metadata.labels == {"maleo.dev/site": "a"}


def test_load__reads_priority_classes_with_their_default(tmp_path: Path) -> None:
    head = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\n"
    text = (
        head
        + "metadata: {name: low}\nvalue: 7\nglobalDefault: true\n---\n"
        + head
        + "metadata: {name: high}\nvalue: 90\n"
    )
    (tmp_path / "classes.yaml").write_text(text, encoding="utf-8")
    priorities = from_manifests(load([tmp_path])).priorities
    assert (priorities[""], priorities["low"], priorities["high"]) == (7, 7, 90)
    assert priorities["system-node-critical"] > priorities["high"]


_WRONG = {
    "a number without its unit": (
        _HEAD + _SPEC.replace("50ms", "50"),
        ["m.yaml: doc 1 Mission/cctv: spec.objectives.latency.atMost: 50: " + _UNIT],
    ),
    "a misspelt field": (
        _HEAD + _SPEC.replace("latency:", "latenzy:"),
        ["m.yaml: doc 1 Mission/cctv: spec.objectives.latenzy: unknown field: did you mean latency?"],
    ),
    "a field that is missing": (
        _HEAD + "spec: {input: {node: n1}, objectives: {}}",
        ["m.yaml: doc 1 Mission/cctv: spec.model: missing: this field is required"],
    ),
    "a kind that there is not": (
        _HEAD.replace("kind: Mission", "kind: Mision"),
        ["m.yaml: doc 1: kind: Mision: no kind of maleo.dev: did you mean Mission?"],
    ),
    "a version that there is not": (
        _HEAD.replace("v1alpha1", "v1") + _SPEC,
        ["m.yaml: doc 1 Mission: apiVersion: maleo.dev/v1: write maleo.dev/v1alpha1"],
    ),
    "the same name twice": (
        f"{_HEAD}{_SPEC}---\n{_HEAD}{_SPEC}",
        ["m.yaml: doc 2 Mission/cctv: metadata.name: default/cctv: " + _TWICE],
    ),
    "no Kubernetes object": (
        "just text",
        ["m.yaml: doc 1: no Kubernetes object: apiVersion, kind and metadata.name are needed"],
    ),
    "an enumeration": (
        _HEAD + _SPEC.replace("spec: {", "spec: {modes: [Lokal], "),
        ["""m.yaml: doc 1 Mission/cctv: spec.modes[0]: "Lokal": input should be 'Local', 'Split' or 'Remote'"""],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _WRONG)
def test_load__says_what_is_wrong_where_and_what_to_do(tmp_path: Path, case: str) -> None:
    text, want = _WRONG[case]
    assert _mistakes(tmp_path, text) == want


def test_load__tells_all_mistakes_of_all_files_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [", encoding="utf-8")
    mistakes = _mistakes(tmp_path, _HEAD + "spec: {modell: 1}")
    assert len(mistakes) == 5  # not YAML; unknown modell; missing model, input, objectives
    assert mistakes[0].startswith("a.yaml: not readable as YAML")


def test_load__names_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere: no such file or folder"):
        load([tmp_path / "nowhere"])
