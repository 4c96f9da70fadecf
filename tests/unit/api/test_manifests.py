"""Manifests of users: which are accepted, and the message of every error."""

import json
import re
from pathlib import Path

import pytest
import yaml

from maleo_api.checks import find_rule_violations
from maleo_api.manifests import ManifestError, load, revise
from maleo_api.mission import LatencyObjective, Mission
from maleo_api.rules import RULES
from maleo_planner.types.from_manifests import from_manifests
from support.paths import MUST_FAIL

_HEAD = "apiVersion: maleo.dev/v1alpha1\nkind: Mission\nmetadata: {name: cctv}\n"
_SPEC = "spec: {model: {name: m}, input: {node: n1}, objectives: {latency: {atMost: 50ms}}}\n"
_OWN = "apiVersion: maleo.dev/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n---\n"
_UNITS = "{vendor: v, product: p, computeUnits: [{name: npu, type: NPU, runtimes: %s}]}"
_UNIT = "invalid duration: use a number with a unit, for example 50ms"
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
    assert not any(name.startswith("system-") for name in priorities), "no mission ranks by these"


_INVALID = {
    "a number without its unit": (
        _HEAD + _SPEC.replace("50ms", "50"),
        ["m.yaml: doc 1 Mission/cctv: spec.objectives.latency.atMost: 50: " + _UNIT],
    ),
    "a misspelt field": (
        _HEAD + _SPEC.replace("latency:", "latenzy:"),
        ["m.yaml: doc 1 Mission/cctv: spec.objectives.latenzy: unknown field: did you mean latency?"],
    ),
    "a missing field": (
        _HEAD + "spec: {input: {node: n1}, objectives: {}}",
        ["m.yaml: doc 1 Mission/cctv: spec.model: required field is missing"],
    ),
    "an unknown kind": (
        _HEAD.replace("kind: Mission", "kind: Mision"),
        ["m.yaml: doc 1: kind: Mision: unknown kind of maleo.dev: did you mean Mission?"],
    ),
    "an unknown version": (
        _HEAD.replace("v1alpha1", "v1") + _SPEC,
        ["m.yaml: doc 1 Mission: apiVersion: maleo.dev/v1: use maleo.dev/v1alpha1"],
    ),
    "the same name twice": (
        f"{_HEAD}{_SPEC}---\n{_HEAD}{_SPEC}",
        ["m.yaml: doc 2 Mission/cctv: metadata.name: default/cctv: " + _TWICE],
    ),
    "not a Kubernetes object": (
        "just text",
        ["m.yaml: doc 1: not a Kubernetes object: apiVersion, kind and metadata.name are required"],
    ),
    "a malformed version": (
        _OWN % ("DeviceProfile", "small", _UNITS % "[{name: onnxruntime, version: v5, formats: [onnx]}]"),
        [('m.yaml: doc 1 DeviceProfile/small: spec.computeUnits[0].runtimes[0].version: "v5": '
         "invalid version: use for example 5.2.0, 4.x or >=4.17")],
    ),
    "a malformed name": (
        _HEAD + _SPEC.replace("n1", "Edge_1"),
        [('m.yaml: doc 1 Mission/cctv: spec.input.node: "Edge_1": '
         "invalid name: use for example edge-1 (lowercase letters, digits, - and ., at most 63 characters)")],
    ),
    "invalid YAML": (
        _HEAD + "spec: {modes: [Local\n",
        [("m.yaml: invalid YAML: line 5, column 1: did not find expected ',' or ']' "
         "(while parsing a flow sequence)")],
    ),
    "an invalid enumeration value": (
        _HEAD + _SPEC.replace("spec: {", "spec: {modes: [Lokal], "),
        ["""m.yaml: doc 1 Mission/cctv: spec.modes[0]: "Lokal": input should be 'Local', 'Split' or 'Remote'"""],
    ),
}  # fmt: skip


_LIST = "apiVersion: v1\nkind: List\nitems: "
_NAME = "use lowercase letters, digits, - and ., starting and ending with a letter or digit, at most 253 characters"
_NODE = "apiVersion: v1\nkind: Node\nmetadata: "
_INVALID |= {
    "a list whose items are a number": (
        _LIST + "3\n",
        ["m.yaml: doc 1 List: items: 3: not a list: put the objects of the list under items"],
    ),
    "a list of something else": (
        _LIST + "[7]\n",
        ["m.yaml: doc 1 List: items[0]: not a Kubernetes object: apiVersion, kind and metadata.name are required"],
    ),
    "a string that YAML reads as a boolean": (
        _HEAD + _SPEC.replace("spec: {", "spec: {priorityClassName: off, "),
        [("m.yaml: doc 1 Mission/cctv: spec.priorityClassName: false: must be a string: quote it, because YAML reads "
          "y, yes, on, n, no and off as booleans")],
    ),
    "a Node whose name Kubernetes rejects": (
        _NODE + "{name: Edge 1}\n", [f'm.yaml: doc 1 Node/Edge 1: metadata.name: "Edge 1": invalid name: {_NAME}']
    ),
    "a Link whose name Kubernetes rejects": (
        ("apiVersion: maleo.dev/v1alpha1\nkind: Link\nmetadata: {name: my_link}\n"
         "spec: {between: [{site: a}, {site: b}], bandwidth: 1Mbit/s, roundTrip: 1ms}\n"),
        [f'm.yaml: doc 1 Link/my_link: metadata.name: "my_link": invalid name: {_NAME}'],
    ),
    "a namespace that Kubernetes rejects": (
        _HEAD.replace("name: cctv", "name: cctv, namespace: a.b") + _SPEC,
        [('m.yaml: doc 1 Mission/cctv: metadata.namespace: "a.b": invalid namespace: use lowercase letters, digits '
          "and -, starting and ending with a letter or digit, at most 63 characters")],
    ),
    "a site that is not a valid label value": (
        _NODE + '{name: a, labels: {maleo.dev/site: "Site A!"}}\n',
        [('m.yaml: doc 1 Node/a: metadata.labels[maleo.dev/site]: "Site A!": invalid label value: use letters, '
          "digits, -, _ and ., starting and ending with a letter or digit, at most 63 characters")],
    ),
    "a label without a name": (
        _NODE + "{name: a, labels: {maleo.dev/: x}}\n",
        ['m.yaml: doc 1 Node/a: metadata.labels: "maleo.dev/": invalid label key: use [domain/]name'],
    ),
    "a long list instead of a string": (
        _HEAD + _SPEC.replace("spec: {", f"spec: {{priorityClassName: {['x'] * 300}, "),
        [('m.yaml: doc 1 Mission/cctv: spec.priorityClassName: ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "x", '
          '"x", "x", "x", "x", "...: input should be a valid string')],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _INVALID)
def test_invalid_manifest__is_rejected_with_place_cause_and_remedy(tmp_path: Path, case: str) -> None:
    text, want = _INVALID[case]
    assert _mistakes(tmp_path, text) == want


_MUST_FAIL = sorted(MUST_FAIL.glob("*.yaml"))
_MESSAGES = [rule.message for rules in RULES.values() for rule in rules]


@pytest.mark.parametrize("file", _MUST_FAIL, ids=lambda file: file.stem)
def test_load__rejects_what_the_api_server_rejects_with_the_same_message(file: Path) -> None:
    expected = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expect: ")
    with pytest.raises(ManifestError) as caught:
        load([file])
    (mistake,) = caught.value.mistakes
    place, _, message = mistake.partition(": doc 1 ")
    assert place == str(file)
    assert re.match(r"[A-Z]\w+/[-.\w]+: (spec|metadata)[.\w\[\]]*: ", message), message
    of_a_rule = any(expected in message for message in _MESSAGES)
    assert not of_a_rule or expected in message


def test_every_rule__has_a_manifest_that_violates_it() -> None:
    broken = "".join(
        file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# expect: ") + "\n" for file in _MUST_FAIL
    )
    for rules in RULES.values():
        for rule in rules:
            if rule.holds is not None and rule.at != "last":  # a span is of a Placement: only the operator writes it
                assert any(words in rule.message for words in broken.splitlines()), rule.message


_NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: {maleo.dev/site: %s}}\n---\n"
_FLEET = _NODE % ("gate-1", "yard") + _NODE % ("edge-1", "yard")
_PROFILE = _OWN % ("DeviceProfile", "small", "{vendor: v, product: p, computeUnits: [{name: npu, type: NPU}]}")
_LINK = "{between: [%s], bandwidth: 10Mbit/s, roundTrip: 1ms}"
_DIGEST, _OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def _model(*, requires: str = "{runtime: onnxruntime}", work: str = "1MOP", cut: str = "") -> str:
    sizes = "parameters: 1Mi, activations: 1Mi"
    spec = (
        "{inputs: [{name: x, datatype: FP32, shape: [1]}], outputs: [{name: z, datatype: FP32, shape: [1]}], variants: "
        f"[{{name: fp32, precision: fp32, cutting: Graph, requires: {requires}, "
        f"artifacts: [{{uri: 'file:///n', digest: '{_DIGEST}', format: onnx, size: 1Mi}}], "
        f"blocks: [{{name: stem, work: {work}, {sizes}{cut}}}, {{name: head, work: 1MOP, {sizes}}}]}}]}}"
    )
    return _OWN % ("Model", "net", spec)


def _cut(size: str, shape: str) -> str:
    return f", cut: {{size: {size}, tensors: [{{name: t, datatype: FP16, shape: {shape}}}]}}"


_MODEL = _model()


def _measured(spans: str, *, profile: str = "small", unit: str = "npu", digest: str = _DIGEST) -> str:
    timed = "latency: {p50: 1ms, p95: 2ms}, samples: 9, basis: Measured"
    return (
        _FLEET
        + _PROFILE
        + _MODEL
        + _OWN
        % (
            "ModelProfile",
            "table",
            (
                f"{{variantDigest: '{digest}', profile: {profile}, unit: {unit}, runtime: r, "
                f"spans: [{{blocks: [{spans}], {timed}}}]}}"
            ),
        )
    )


_DANGLING = {
    "a device of an unknown node": (
        _FLEET + _OWN % ("Device", "gate", "{nodeName: gate-2}"),
        'doc 3 Device/gate: spec.nodeName: "gate-2": Node not found: did you mean gate-1?',
    ),
    "a device of an unknown profile": (
        _FLEET + _PROFILE + _OWN % ("Device", "gate", "{nodeName: gate-1, declared: [{name: a, profile: smal}]}"),
        'doc 4 Device/gate: spec.declared[0].profile: "smal": DeviceProfile not found: did you mean small?',
    ),
    "two devices of one node": (
        _FLEET + _OWN % ("Device", "a", "{nodeName: gate-1}") + _OWN % ("Device", "b", "{nodeName: gate-1}"),
        'doc 4 Device/b: spec.nodeName: "gate-1": already described by Device/a: a Node must have only one Device',
    ),
    "a link to an unknown node": (
        _FLEET + _OWN % ("Link", "up", _LINK % "{node: gate-1}, {node: moon}"),
        'doc 3 Link/up: spec.between[1].node: "moon": Node not found: use one of edge-1, gate-1',
    ),
    "a link to an unknown site": (
        _FLEET + _OWN % ("Link", "up", _LINK % "{site: yard}, {site: yart}"),
        ('doc 3 Link/up: spec.between[1].site: "yart": '
         "no Node has this value of label maleo.dev/site: did you mean yard?"),
    ),
    "two links between the same ends": (
        _FLEET
        + _OWN % ("Link", "a", _LINK % "{node: gate-1}, {node: edge-1}")
        + _OWN % ("Link", "b", _LINK % "{node: edge-1}, {node: gate-1}"),
        ('doc 4 Link/b: spec.between: [{"node": "edge-1"}, {"node": "gate-1"}]: '
        "ends already joined by Link/a: remove one of them"),
    ),
    "a measured span of an unknown block": (
        _measured("stem, hed"),
        'doc 5 ModelProfile/table: spec.spans[0].blocks: "hed": the variant has no such block: did you mean head?',
    ),
    "a measured span out of order": (
        _measured("head, stem"),
        ('doc 5 ModelProfile/table: spec.spans[0].blocks: ["head", "stem"]: '
        "ends before it starts: name the first block, then the last"),
    ),
    "measured on an unknown profile": (
        _measured("stem, head", profile="smaller"),
        'doc 5 ModelProfile/table: spec.profile: "smaller": DeviceProfile not found: did you mean small?',
    ),
    "measured on an unknown unit": (
        _measured("stem, head", unit="gpu"),
        'doc 5 ModelProfile/table: spec.unit: "gpu": DeviceProfile small has no such unit: did you mean npu?',
    ),
    "measured for an unknown variant": (
        _measured("stem, head", digest=_OTHER),
        (f'doc 5 ModelProfile/table: spec.variantDigest: "{_OTHER}": no variant of a Model has an artifact with this '
        "digest: add the Model, or remove this ModelProfile"),
    ),
    "a span measured twice": (
        _measured("stem, head") + _measured("stem, head").rpartition(_MODEL)[2].replace("name: table", "name: zweite"),
        ('doc 6 ModelProfile/zweite: spec.spans[0].blocks: ["stem", "head"]: '
        "already measured in ModelProfile/default/table spans[0]: remove one of them"),
    ),
    "an unknown tier": (
        _FLEET.replace("{maleo.dev/site: yard}", "{maleo.dev/tier: Devise}", 1),
        'doc 1 Node/gate-1: metadata.labels[maleo.dev/tier]: "Devise": unknown tier: did you mean Device?',
    ),
    "versions that exclude each other": (
        _model(requires="{runtime: onnxruntime, version: '>=2,<2.0'}"),
        ('doc 1 Model/net: spec.variants[0].requires.version: ">=2,<2.0": no version is in this range: '
        "the lower bound must be below the upper bound, such as >=1.17,<2"),
    ),
    "a cut whose size contradicts its tensors": (
        _model(cut=_cut("8Ki", "[-1, 1000]")),
        ('doc 1 Model/net: spec.variants[0].blocks[0].cut.size: "8Ki": '
        "the size of a cut must match its tensors by shapes and datatypes, within 5%: "
        "correct the size or the tensors (the tensors have 1.95Ki)"),
    ),
    "a cut below the least size of its tensors": (
        _model(cut=_cut("1Ki", "[1, -1, 1000]")),
        ('doc 1 Model/net: spec.variants[0].blocks[0].cut.size: "1Ki": '
        "the size of a cut must match its tensors by shapes and datatypes, within 5%: "
        "correct the size or the tensors (the tensors have at least 1.95Ki)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _DANGLING)
def test_check__reports_dangling_references_and_duplicates(tmp_path: Path, case: str) -> None:
    text, want = _DANGLING[case]
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        load([tmp_path]).check()
    assert [mistake.removeprefix(f"{tmp_path}/m.yaml: ") for mistake in caught.value.mistakes] == [want]


@pytest.mark.parametrize(
    "text",
    [
        _model(work="0MOP"),  # of one block only
        _model(requires="{runtime: onnxruntime, version: '>=1.17,<2'}"),
        _model(requires="{runtime: onnxruntime, version: '<2,>=1.17.0'}"),
        _model(cut=_cut("2Ki", "[1, 1000]")),  # 1.95Ki, rounded
        _model(cut=_cut("8Ki", "[1, -1]")),  # unknown size
    ],
)
def test_check__accepts_unusual_but_valid_manifests(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    load([tmp_path]).check()


def test_check__also_resolves_names_in_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text(_FLEET + _PROFILE, encoding="utf-8")
    device = "{nodeName: gate-1, declared: [{name: a, profile: small}]}"
    (tmp_path / "here.yaml").write_text(_OWN % ("Device", "gate", device), encoding="utf-8")
    load([tmp_path / "here.yaml"]).check(load([tmp_path / "there.yaml"]))


def test_revise__validates_changes_as_in_a_manifest() -> None:
    mission = Mission.model_validate(yaml.safe_load(_HEAD + _SPEC))
    assert revise(mission, {"modes": ["Local"]}).spec.modes == ["Local"]
    for path, value, message in (
        ("objectives.latenzy.atMost", "5ms", "spec.objectives.latenzy: unknown field: did you mean latency?"),
        ("objectives.latency.atMost", "20s", "must be less than latency.window"),
        ("model.name.first", "x", "spec.model.name.first: name has no fields"),
    ):
        with pytest.raises(ManifestError, match=re.escape(message)):
            revise(mission, {path: value})


def test_load__reports_all_errors_of_all_files_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [", encoding="utf-8")
    mistakes = _mistakes(tmp_path, _HEAD + "spec: {modell: 1}")
    assert len(mistakes) == 5  # not YAML; unknown modell; missing model, input, objectives
    assert mistakes[0].startswith("a.yaml: invalid YAML")


def test_load__names_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere: no such file or directory"):
        load([tmp_path / "nowhere"])


def test_standard_input__is_read_for_a_file_named_minus() -> None:
    text = _HEAD + _SPEC
    assert list(load([Path("-")], standard_input=lambda: text).of(Mission)) == ["default/cctv"]
    with pytest.raises(
        ManifestError, match=r"^standard input: doc 1 Mission/cctv: spec\.model: required field is missing"
    ):
        load(
            [Path("-")], standard_input=lambda: _HEAD + "spec: {objectives: {latency: {atMost: 1s}}, input: {node: a}}"
        )


@pytest.mark.parametrize("kind", ["List", "MissionList"])
def test_lists__of_every_kind_are_read(tmp_path: Path, kind: str) -> None:
    item = {
        "apiVersion": "maleo.dev/v1alpha1",
        "kind": "Mission",
        "metadata": {"name": "cctv"},
        **yaml.safe_load(_SPEC),
    }
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": kind, "items": [item]}), encoding="utf-8")
    assert list(load([file]).of(Mission)) == ["default/cctv"]


@pytest.mark.parametrize(("status", "ready"), [("True", True), ("False", False), ("Unknown", False), (None, True)])
def test_node_of_a_dump__is_ready_as_reported_by_its_kubelet(tmp_path: Path, status: str | None, ready: bool) -> None:
    conditions = [
        {"type": "MemoryPressure", "status": "False"},
        *([{"type": "Ready", "status": status}] if status else []),
    ]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}, "status": {"conditions": conditions}}
    file = tmp_path / "m.json"
    file.write_text(json.dumps(node), encoding="utf-8")
    assert from_manifests(load([file])).nodes["a"].ready is ready


@pytest.mark.parametrize(("percentile", "samples"), [(50, 60), (95, 60), (96, 75), (97, 100), (99, 300)])
def test_required_samples__follow_the_percentile(percentile: int, samples: int) -> None:
    objective = LatencyObjective.model_validate({"percentile": percentile, "atMost": "1s"})
    assert objective.required_samples == samples
    assert list(find_rule_violations(objective)) == []
