"""JSON and YAML text as plain values, with the strictness that a file edited by hand needs.

A key that stands twice is an error, since the one that loses was meant too. Nesting is counted before anything is
built: libyaml's composer recurses in C and takes the process down with it at depths that fit into a kilobyte. The
line of a mistake is looked up only once there is one.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from typing import Any

import yaml

from svcmesh.core.errors import DiscoveryError

DEEPEST = 32
"""Levels of nesting that a document may have."""

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML can be built without libyaml

Path = Sequence[str | int]
"""Keys and positions that lead from the top of a document to a value."""


def text_of(content: bytes, where: str) -> str:
    """Return the text of a file that people edit; ``where`` is its name, for errors.

    Raises:
        DiscoveryError: it is no UTF-8; the message has the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DiscoveryError(f"{where}, line {line}: not UTF-8 text") from None


def parse_document(text: str, where: str, *, is_json: bool) -> Any:
    """Return the plain value of a JSON or YAML document.

    Args:
        text: the document.
        where: the name of its file, for errors.
        is_json: hold it to JSON's grammar. YAML would read JSON too, but with other rules for some strings.

    Raises:
        DiscoveryError: it cannot be understood; the message has ``where`` and, where known, the line.
    """
    try:
        if is_json:
            return STRICT_JSON.decode(text)
        _check_depth(text)
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - it is a safe loader with one more check
    except json.JSONDecodeError as error:
        raise DiscoveryError(f"{where}, line {error.lineno}: {error.msg}") from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise DiscoveryError(f"{where}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise DiscoveryError(f"{where}: {error}") from None
    except RecursionError:
        raise DiscoveryError(f"{where} is nested too deeply") from None
    except (LookupError, TypeError, AttributeError, ArithmeticError):  # PyYAML goes by tags, whatever stands there
        raise DiscoveryError(f"{where}: a value is not of the kind that its tag says, as in !!bool 7") from None


def line_of(text: str, path: Path) -> int | None:
    """Return the line (from 1) of what ``path`` leads to in a document that could be parsed; None if unknown."""
    try:
        _check_depth(text)
        node: Any = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError:
        return None  # JSON that is no YAML, as with escaped surrogates
    for step in path:
        found = _child(node, step)
        if found is None:
            break
        node = found
    return None if node is None else int(node.start_mark.line) + 1


def _child(node: Any, step: str | int) -> Any:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step] if step < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    return None


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            mark: Any = event.start_mark  # libyaml's mark or PyYAML's: the stubs know one of them
            if depth > DEEPEST:
                raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} deep", problem_mark=mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for at, key in enumerate(names) if key in names[:at])
        raise ValueError(f"key {twice!r} stands twice in one object")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
"""What reads JSON in which no key of an object may stand twice."""


class _StrictLoader(_LOADER):  # type: ignore[misc]  # the base is chosen when PyYAML is imported
    """PyYAML's safe loader, for which a key that stands twice in one mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            mark = (key.tag, str(key.value))
            if mark in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(mark)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return found

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        found: int = self.construct_yaml_int(node)
        str(found)  # what Python makes no text of is none in JSON and in decimals, and would break whoever shows it
        return found


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_whole)
