"""Parser for YAML and JSON manifests, compatible with kubectl; returns JSON values.

kubectl splits a stream at lines that start with `---`, reads a part that starts with `{` as JSON, and resolves plain
scalars by the rules of go-yaml: `y`, `on` and `No` are booleans, `0777` is octal, `1e3` is a number, `1:30` and
`2001-12-14` are strings. PyYAML follows other rules, so scalars are resolved here. This parser is stricter than kubectl
where kubectl would lose data silently; the message then says so. The expansion of aliases is bounded.
"""

import json
import math
import re
from base64 import b64decode
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is about five times as fast
_TAG: Final = "tag:yaml.org,2002:"
_WORDS: Final[dict[str, tuple[str, Any]]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), ("null", None)),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"), ("bool", True)),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"), ("bool", False)),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), ("float", math.nan)),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), ("float", math.inf)),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), ("float", -math.inf)),
}
_INTEGER: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BASES: Final = (16, 2, 8, 10)
_INT64: Final = 2**63
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_BLANKS: Final = re.compile(r"\s*")
_EXPANSION: Final = (10, 100_000)
"""Limit on alias expansion: (factor on the number of nodes as written, additional values)."""


class DocumentError(ValueError):
    """Syntax error; the message is one line with the position in the text."""


def parse_documents(text: str) -> Iterator[Any]:
    """Yield the JSON value of each document in `text`, None for an empty one. Raise DocumentError on a syntax error."""
    for first_line, part in _split(text.removeprefix("\ufeff")):
        if part.lstrip().startswith("{"):
            try:
                yield from _read_json(part)
                continue
            except ValueError:
                pass  # it may be a YAML flow mapping
        yield _read_yaml(part, first_line)


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of lines before the part, part) for the parts between separator lines."""
    part, begin = list[str](), 0
    for number, line in enumerate(text.splitlines(keepends=True)):
        if not line.startswith("---"):
            part.append(line)
            continue
        rest = line[3:].strip()
        if rest and not rest.startswith("#"):
            raise DocumentError(f"line {number + 1}: text after the separator ---: start the document on a new line")
        yield begin, "".join(part)
        part, begin = [], number + 1
    yield begin, "".join(part)


# ---------------------------------------------------------------------------------------------------------------- JSON


def _read_json(text: str) -> list[Any]:
    """Return all values of a stream of JSON objects. Raise ValueError if `text` is not such a stream."""
    decoder = json.JSONDecoder(parse_constant=_reject_constant, object_pairs_hook=_object)
    has_surrogates = _SURROGATE.search(text) is not None
    values, at = [], _after_blanks(text, 0)
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        values.append(_replace_surrogates(value) if has_surrogates else value)
        at = _after_blanks(text, end)
    return values


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found is not None else at


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise DocumentError(_describe_duplicate(next(name for name in names if names.count(name) > 1)))
    return found


def _replace_surrogates(value: Any) -> Any:
    """Replace unpaired surrogates by U+FFFD, as Go does, in every string of `value`."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_replace_surrogates(item) for item in value]
    return (
        {_replace_surrogates(name): _replace_surrogates(item) for name, item in value.items()}
        if isinstance(value, dict)
        else value
    )


# ---------------------------------------------------------------------------------------------------------------- YAML


class _Loader(_LOADER):  # type: ignore[misc] # one of two classes, known at run time
    """YAML loader that tags plain scalars `plain`, so that they can be resolved by the rules of go-yaml."""

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is ScalarNode and implicit[0]:
            return "plain"
        return str(super().resolve(kind, value, implicit))


def _read_yaml(text: str, first_line: int) -> Any:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        return None if root is None else _Builder(_max_values(text, root)).build(root)
    except _InvalidNode as error:
        raise DocumentError(f"line {first_line + error.line + 1}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark, context = error.problem_mark, f" ({error.context})" if error.context else ""
        position = f"line {first_line + mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise DocumentError(f"{position}{error.problem}{context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        message = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise DocumentError(message.replace('in "<unicode string>", ', "")) from None
    finally:
        loader.dispose()


def _max_values(text: str, root: Node) -> float:
    """Return the number of values allowed after alias expansion; infinite for a text without aliases."""
    return _EXPANSION[0] * _count_nodes(root) + _EXPANSION[1] if "*" in text else math.inf


def _count_nodes(root: Node) -> int:
    """Return the number of nodes of the document as written: an aliased node counts once."""
    visited, stack = set[int](), [root]
    while stack:
        node = stack.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, SequenceNode):
            stack += node.value
        elif isinstance(node, MappingNode):
            stack += [child for pair in node.value for child in pair]
    return len(visited)


class _InvalidNode(Exception):
    def __init__(self, node: Node, message: str) -> None:
        super().__init__(message)
        self.line = node.start_mark.line


class _Builder:
    """Builder of JSON values from YAML nodes; raises _InvalidNode after `max_values` values."""

    def __init__(self, max_values: float) -> None:
        self._remaining = max_values
        self._ancestors = set[int]()

    def build(self, node: Node) -> Any:
        self._remaining -= 1
        if self._remaining < 0:
            raise _InvalidNode(node, "aliases (*name) expand this document too much: use fewer aliases")
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if id(node) in self._ancestors:
            raise _InvalidNode(node, "alias (*name) contains itself")
        self._ancestors.add(id(node))
        if isinstance(node, SequenceNode):
            built: Any = [self.build(item) for item in node.value]
        else:
            assert isinstance(node, MappingNode)
            built = self._mapping(node)
        self._ancestors.remove(id(node))
        return built

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        """Return the mapping with merge keys (<<) resolved: explicit keys win over merged ones, earlier sources win."""
        found, merged = dict[str, Any](), dict[str, Any]()
        for name, value in node.value:
            if name.value == "<<" and name.tag == "plain":
                for source in self._merged(value):
                    merged = {**source, **merged}
                continue
            key = _key(name)
            if key in found:
                raise _InvalidNode(name, _describe_duplicate(key))
            found[key] = self.build(value)
        return {**merged, **found}

    def _merged(self, value: Node) -> list[dict[str, Any]]:
        sources = value.value if isinstance(value, SequenceNode) else [value]
        if not all(isinstance(source, MappingNode) for source in sources):
            raise _InvalidNode(value, "<<: requires a mapping or a list of mappings")
        return [self.build(source) for source in sources]


def _describe_duplicate(name: str) -> str:
    return f"duplicate key {json.dumps(name)}: kubectl would silently use the last one; remove one"


def _key(node: Node) -> str:
    if not isinstance(node, ScalarNode):
        raise _InvalidNode(node, "a key must be a string, not a list or a mapping")
    value = _scalar(node)
    if value is None:
        raise _InvalidNode(node, "a key must not be null: quote it")
    return value if isinstance(value, str) else json.dumps(value)


def _scalar(node: ScalarNode) -> Any:
    text, tag = node.value, node.tag
    if tag == "plain":
        return _number(node, _resolve(text)[1])
    kind = tag.removeprefix(_TAG)
    if tag == kind or kind in ("str", "timestamp"):
        return text  # an unknown tag keeps the text
    if kind == "binary":
        return _binary(node)
    found, value = _resolve(text)
    if kind not in ("int", "float", "bool", "null"):
        return text
    if found != kind and (found, kind) != ("int", "float"):
        raise _InvalidNode(node, f"{json.dumps(text)} is not a value of type {kind}")
    return _number(node, value)


def _binary(node: ScalarNode) -> str:
    try:
        return b64decode("".join(node.value.split()), validate=True).decode()
    except ValueError:
        raise _InvalidNode(node, "!!binary requires base64 of UTF-8 text") from None


def _number(node: Node, value: Any) -> Any:
    """Return the number as in JSON: an integral float becomes an integer. Raise _InvalidNode if it is not finite."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise _InvalidNode(node, "infinity and NaN cannot be represented in JSON")
    return int(value) if value.is_integer() and abs(value) < _INT64 else value


@lru_cache(maxsize=8192)  # keys and names repeat
def _resolve(text: str) -> tuple[str, Any]:
    """Return (type, value) of a plain scalar by the rules of go-yaml."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return "str", text
    plain = text.replace("_", "")
    whole = _INTEGER.fullmatch(plain)
    if whole is not None and text[0] != ".":
        sign, digits = whole[1], whole.groups()[1:]
        base, number = next((base, found) for base, found in zip(_BASES, digits, strict=True) if found is not None)
        exact = int(f"{sign}{number}", base)
        if -_INT64 <= exact < _INT64:
            return "int", exact
    if _FLOAT.fullmatch(plain) is not None and math.isfinite(value := float(plain)):
        return "float", value
    return "str", text
