"""Our reader of manifests against a real kubectl, over a corpus of texts."""

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
    """The program; it is asked nothing that needs a server."""


def _kubectl(text: str) -> subprocess.CompletedProcess[str]:
    command = ["kubectl", "label", "--local", "-f", "-", "asked=yes", "-o", "json"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


def _documents(text: str) -> list[Any]:
    told, decoder, found = _kubectl(text).stdout, json.JSONDecoder(), []
    while told.strip():
        value, end = decoder.raw_decode(told.lstrip())
        del value["metadata"]["labels"]
        found.append(value)
        told = told.lstrip()[end:]
    return found


def test_kubectl__reads_every_scalar_as_we_do() -> None:
    text = _HEAD + "".join(f"x{number}: {scalar}\n" for number, scalar in enumerate(SCALARS))
    (found,) = _documents(text)
    read = {scalar: found[f"x{number}"] for number, scalar in enumerate(SCALARS)}
    assert {k: v for k, v in read.items() if v != SCALARS[k]} == {}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_kubectl__splits_documents_as_we_do(case: str) -> None:
    text, want = DOCUMENTS[case]
    assert _documents(text) == want


@pytest.mark.parametrize("case", REFUSED)
def test_kubectl__refuses_what_we_refuse(case: str) -> None:
    assert _kubectl(REFUSED[case][0]).returncode != 0


@pytest.mark.parametrize("case", STRICTER)
def test_kubectl__takes_what_only_we_refuse(case: str) -> None:
    assert _kubectl(STRICTER[case][0]).returncode == 0
