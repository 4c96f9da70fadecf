"""Answers of the API server: objects, lists and errors in JSON."""

import json
from dataclasses import dataclass
from typing import Any

from maleo_kube.errors import ApiError, Busy, of_status
from maleo_kube.resources import Kind

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """Result of a list: the objects, and the resource version to start a watch from."""

    items: list[Object]
    resource_version: str


def parse_object(data: bytes) -> Object | None:
    """Return the JSON object in `data`, None if there is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # no JSON, no UTF-8; nested too deeply
        return None
    return value if isinstance(value, dict) else None


def parse_list(response: Object, kind: Kind) -> Listing:
    """Return the objects of a list, each with the apiVersion and kind that the server leaves out. Raise Busy."""
    try:
        items = [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in response["items"]]
        return Listing(items=items, resource_version=response["metadata"]["resourceVersion"])
    except (KeyError, TypeError) as error:
        raise Busy(f"list {kind.plural}: the server did not send a list: {type(error).__name__}: {error}") from error


def parse_error(status: int, data: bytes) -> ApiError:
    """Return the error of an answer with an HTTP status of 400 and above."""
    body = parse_object(data) or {}
    message = str(body.get("message", data[:500].decode(errors="replace")))
    return of_status(status, str(body.get("reason", "")), message)
