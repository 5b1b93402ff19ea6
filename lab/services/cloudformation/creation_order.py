"""The order in which a template's resources are created: what a resource refers to comes before it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SUBSTITUTED = re.compile(r"\$\{([^!.}][^.}]*)")


def creation_order(resources: Mapping[str, Any]) -> list[str]:
    """Logical ids, each after those it depends on by DependsOn, Ref, Fn::GetAtt or Fn::Sub; else in template order.

    A cycle, which CloudFormation refuses, is cut where it was entered.
    """
    ordered: list[str] = []
    visited: set[str] = set()

    def visit(start: str) -> None:
        # An explicit stack: a chain of dependencies may be deeper than Python's recursion limit.
        stack: list[tuple[str, Iterator[str]]] = []
        visited.add(start)
        stack.append((start, iter(_dependencies(resources[start], resources))))
        while stack:
            logical_id, remaining = stack[-1]
            for dependency in remaining:
                if dependency not in visited:
                    visited.add(dependency)
                    stack.append((dependency, iter(_dependencies(resources[dependency], resources))))
                    break
            else:
                ordered.append(logical_id)
                stack.pop()

    for logical_id in resources:
        if logical_id not in visited:
            visit(logical_id)
    return ordered


def _dependencies(resource: Mapping[str, Any], resources: Mapping[str, Any]) -> list[str]:
    depends_on = resource.get("DependsOn") or []
    names = [depends_on] if isinstance(depends_on, str) else list(depends_on)
    names.extend(_references(resource.get("Properties")))
    return [name for name in names if name in resources]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "Ref" and isinstance(inner, str):
                yield inner
            elif key == "Fn::GetAtt":
                yield inner.split(".")[0] if isinstance(inner, str) else inner[0]
            elif key == "Fn::Sub":
                template = inner if isinstance(inner, str) else inner[0]
                yield from _SUBSTITUTED.findall(template)
                if not isinstance(inner, str):
                    yield from _references(inner[1])
            else:
                yield from _references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _references(inner)
