"""Kubeconfig with static credentials: contexts, several files, referenced files, and errors."""

import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from maleo_kube.kubeconfig import read_access, read_context


def _write(
    file: Path, contexts: dict[str, dict[str, str]], users: dict[str, Any], current: str = "", **cluster: object
) -> Path:
    clusters = [{"name": "c", "cluster": {"server": "http://127.0.0.1:8001/", **cluster}}]
    body = {
        "contexts": [{"name": name, "context": {"cluster": "c", **fields}} for name, fields in contexts.items()],
        "clusters": clusters,
        "users": [{"name": name, "user": fields} for name, fields in users.items()],
        **({"current-context": current} if current else {}),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(body))
    return file


_CONTEXTS = {"lab": {"user": "a", "namespace": "team-a"}, "field": {"user": "b"}}
_USERS = {"a": {"token": "of-a"}, "b": {"token": "of-b"}}


def test_access__uses_the_current_or_the_named_context(tmp_path: Path) -> None:
    file = _write(tmp_path / "config", _CONTEXTS, _USERS, current="lab")
    lab, field = read_access(file), read_access(file, "field")
    assert (lab.url, lab.authorize(), lab.namespace) == ("http://127.0.0.1:8001", "Bearer of-a", "team-a")
    assert (field.authorize(), field.namespace) == ("Bearer of-b", "default")


def test_several_files__are_merged_and_the_first_definition_of_a_name_wins(tmp_path: Path) -> None:
    first = _write(tmp_path / "1" / "config", {"field": {"user": "b"}}, {"b": {"tokenFile": "token"}})
    (first.parent / "token").write_text("first\n")
    second = _write(tmp_path / "2" / "config", _CONTEXTS, _USERS, current="lab")
    paths = os.pathsep.join([str(first), str(tmp_path / "none"), str(second)])
    assert read_access(paths).authorize() == "Bearer of-a", "the current context of the first file that has one"
    field = read_access(paths, "field")
    assert field.authorize() == "Bearer first", "the token file is relative to the kubeconfig that names it"
    (first.parent / "token").write_text("renewed")
    assert field.authorize() == "Bearer renewed"


def test_proxy_and_tls_server_name__are_read(tmp_path: Path) -> None:
    options = {"proxy-url": "http://proxy:3128", "tls-server-name": "api.lab"}
    access = read_access(_write(tmp_path / "config", _CONTEXTS, _USERS, current="lab", **options))
    assert (access.proxy, access.server_name) == ("http://proxy:3128", "api.lab")


@pytest.mark.parametrize(
    "user", [{"exec": {"command": "login"}}, {"auth-provider": {"name": "oidc"}}, {"username": "u"}]
)
def test_credentials_that_are_not_in_the_file__need_the_library(tmp_path: Path, user: dict[str, Any]) -> None:
    file = _write(tmp_path / "config", {"lab": {"user": "a"}}, {"a": user}, current="lab")
    assert read_context(file).needs_library
    with pytest.raises(ValueError, match="context lab needs a credential plugin"):
        read_access(file)


_INVALID: dict[str, tuple[Any, str]] = {
    "not a mapping": ([1], "no mapping"),
    "invalid YAML": ("{", "not readable as YAML"),
    "no current context": ({}, "no current context: name one with --context"),
    "an unknown context": ({"current-context": "x"}, "no context x: the contexts are none"),
    "contexts are not a list": ({"contexts": {"lab": {}}, "current-context": "lab"}, "contexts: not a list of objects"),
    "no cluster": (
        {"contexts": [{"name": "x", "context": {"cluster": "c"}}], "current-context": "x"},
        "context x: no cluster 'c' with a server",
    ),
    "no user": (
        {
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://a"}}],
            "current-context": "x",
        },
        "context x: no user 'u'",
    ),
    "an invalid certificate": (
        {
            "contexts": [{"name": "x", "context": {"cluster": "c"}}],
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": "https://a", "certificate-authority-data": b64encode(b"none").decode()},
                }
            ],
            "current-context": "x",
        },
        "context x: not a certificate or key in PEM",
    ),
}


@pytest.mark.parametrize("case", _INVALID)
def test_invalid_kubeconfig__is_rejected_with_the_cause(tmp_path: Path, case: str) -> None:
    body, message = _INVALID[case]
    file = tmp_path / "config"
    file.write_text(body if isinstance(body, str) else yaml.safe_dump(body))
    with pytest.raises((ValueError, OSError), match=message):
        read_access(file)
