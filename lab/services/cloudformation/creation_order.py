"""The order in which a template's resources are created: what a resource refers to comes before it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

_SUBSTITUTED = re.compile(r"\$\{([^!.}][^.}]*)")


def creation_order(resources: Mapping[str, Any]) -> list[str]:
    """Logical ids, each after those it depends on by DependsOn, Ref, Fn::GetAtt or Fn::Sub.

    A cycle, which CloudFormation refuses, leaves them in the template's order.
    """
    depends_on = {logical_id: _dependencies(resource, resources) for logical_id, resource in resources.items()}
    try:
        return list(TopologicalSorter(depends_on).static_order())
    except CycleError:
        return list(resources)


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
