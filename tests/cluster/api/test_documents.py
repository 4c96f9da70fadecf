"""The reader of manifests compared with a real kubectl, on a corpus of YAML texts."""

import json
import subprocess
from typing import Any

import pytest

from maleo_devcluster.control_plane import ControlPlane
from support.yaml_corpus import DOCUMENTS, REFUSED, SCALARS, STRICTER

pytestmark = pytest.mark.cluster

_HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


@pytest.fixture(scope="module", autouse=True)
def _kubectl_on_path(api_server: ControlPlane) -> None:
    """Put kubectl on PATH; the tests do not use the server."""


def _kubectl(text: str) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "label", "--local", "-f", "-", "read=yes", "-o", "json"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


def _documents(text: str) -> list[Any]:
    output, decoder, found = _kubectl(text).stdout, json.JSONDecoder(), []
    while output.strip():
        value, end = decoder.raw_decode(output.lstrip())
        del value["metadata"]["labels"]
        found.append(value)
        output = output.lstrip()[end:]
    return found


def test_scalars__are_read_as_by_kubectl() -> None:
    text = _HEAD + "".join(f"x{number}: {scalar}\n" for number, scalar in enumerate(SCALARS))
    (found,) = _documents(text)
    read = {scalar: found[f"x{number}"] for number, scalar in enumerate(SCALARS)}
    assert {k: v for k, v in read.items() if v != SCALARS[k]} == {}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_documents__are_split_as_by_kubectl(case: str) -> None:
    text, expected = DOCUMENTS[case]
    assert _documents(text) == expected


@pytest.mark.parametrize("case", REFUSED)
def test_rejected_documents__are_rejected_by_kubectl_too(case: str) -> None:
    assert _kubectl(REFUSED[case][0]).returncode != 0


@pytest.mark.parametrize("case", STRICTER)
def test_documents_that_only_maleo_rejects__are_accepted_by_kubectl(case: str) -> None:
    assert _kubectl(STRICTER[case][0]).returncode == 0
