"""Kubeconfig with static credentials: certificates, tokens and token files.

Reading it takes milliseconds, importing the Kubernetes client library a second: `maleo_kube.plugins` uses that library
for everything else, such as credential plugins.
"""

import os
import ssl
import tempfile
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from maleo_kube.access import Access, bearer

_LIBRARY_FIELDS: Final = ("exec", "auth-provider", "username")
"""Fields of a user whose credentials are not in the kubeconfig or not a token, in order of precedence."""


@dataclass(frozen=True, slots=True)
class Context:
    """A context of a kubeconfig. Paths in `cluster` and `user` are relative to the file that defines them."""

    name: str
    namespace: str
    cluster: "_Section"
    user: "_Section"

    @property
    def needs_library(self) -> bool:
        """Return True if the credentials require the Kubernetes client library."""
        return any(name in self.user.fields for name in _LIBRARY_FIELDS)

    def read_token(self) -> str:
        """Return the user's token, empty without one. A token file is read now: tokens in files are renewed."""
        if self.user.text("tokenFile"):
            return self.user.path("tokenFile").read_text(encoding="ascii").strip()
        return self.user.text("token")


@dataclass(frozen=True, slots=True)
class _Section:
    fields: dict[str, Any]
    file: Path

    def text(self, name: str) -> str:
        return str(self.fields.get(name) or "")

    def content(self, name: str) -> bytes:
        """Return the bytes of `NAME-data`, else of the file at path `NAME`, else no bytes."""
        if data := self.fields.get(f"{name}-data"):
            return b64decode(data)
        return self.path(name).read_bytes() if self.fields.get(name) else b""

    def path(self, name: str) -> Path:
        return self.file.parent / self.text(name)


def read_access(paths: str | Path, context: str = "") -> Access:
    """Return the access of a context, of the current one if `context` is empty. Raise ValueError, OSError.

    paths: one file, or several as in KUBECONFIG: the first file that defines a name takes precedence.
    """
    selected = read_context(paths, context)
    if selected.needs_library:
        raise ValueError(f"{paths}: context {selected.name} needs a credential plugin; use a certificate or a token")
    return access_of(selected)


def access_of(context: Context) -> Access:
    """Return the access of a context that does not need the library. Raise ValueError, OSError for bad credentials."""
    cluster = context.cluster
    return Access(
        url=cluster.text("server").rstrip("/"),
        tls=_make_tls(context) if cluster.text("server").startswith("https:") else None,
        authorize=lambda: bearer(context.read_token()),
        proxy=cluster.text("proxy-url"),
        server_name=cluster.text("tls-server-name"),
        namespace=context.namespace,
    )


def read_context(paths: str | Path, name: str = "") -> Context:
    """Return a context with its cluster and user, as `read_access` does. Raise ValueError, OSError."""
    sections: dict[str, dict[str, _Section]] = {"contexts": {}, "clusters": {}, "users": {}}
    current = ""
    for file in _files(paths):
        config = _parse(file)
        current = current or str(config.get("current-context") or "")
        for kind, section in sections.items():
            for entry, fields in _entries(config, kind, file):
                section.setdefault(entry, _Section(fields, file))
    name = name or current
    if not name:
        raise ValueError(f"{paths}: no current context: name one with --context")
    if name not in sections["contexts"]:
        names = ", ".join(sorted(sections["contexts"])) or "none"
        raise ValueError(f"{paths}: no context {name}: the contexts are {names}")
    context = sections["contexts"][name]
    cluster = sections["clusters"].get(context.text("cluster"))
    user = sections["users"].get(context.text("user"))
    if cluster is None or not cluster.text("server"):
        raise ValueError(f"{paths}: context {name}: no cluster {context.text('cluster')!r} with a server")
    if user is None and context.text("user"):
        raise ValueError(f"{paths}: context {name}: no user {context.text('user')!r}")
    return Context(name, context.text("namespace") or "default", cluster, user or _Section({}, context.file))


def _files(paths: str | Path) -> list[Path]:
    """Return the files that exist; raise FileNotFoundError for one file that does not."""
    files = [Path(path).expanduser() for path in str(paths).split(os.pathsep) if path]
    if len(files) == 1:
        return files
    existing = [file for file in files if file.exists()]
    if not existing:
        raise ValueError(f"{paths}: none of these files exists")
    return existing


def _parse(file: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file}: not a kubeconfig: no mapping")  # noqa: TRY004 - callers catch what a file can raise
    return config


def _entries(config: dict[str, Any], kind: str, file: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return name and fields of each entry of `contexts`, `clusters` or `users`."""
    try:
        return [(str(entry["name"]), dict(entry.get(kind[:-1]) or {})) for entry in config.get(kind) or []]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}: {kind}: not a list of objects with `name` and `{kind[:-1]}`") from error


def _make_tls(context: Context) -> ssl.SSLContext:
    cluster, user = context.cluster, context.user
    authority = cluster.content("certificate-authority")
    certificate, key = user.content("client-certificate"), user.content("client-key")
    try:
        tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster.fields.get("insecure-skip-tls-verify") is True:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if certificate and key:
            with tempfile.NamedTemporaryFile() as pem:  # the ssl module reads client keys from files only
                pem.write(certificate + b"\n" + key)
                pem.flush()
                tls.load_cert_chain(pem.name)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"context {context.name}: not a certificate or key in PEM: {error}") from error
    return tls
