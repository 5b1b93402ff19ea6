"""Which method of a deployment answers a request. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from lab.services.apigateway.api import Method


@dataclass(frozen=True)
class Match:
    """The method found and the values of its path parameters, URL-encoded as they were sent.

    https://github.com/aws/aws-sam-cli/issues/771 shows what AWS passes.
    """

    method: Method
    path_parameters: dict[str, str]


@dataclass
class _Node:
    methods: dict[str, Method] = field(default_factory=dict)
    static: dict[str, _Node] = field(default_factory=dict)
    parameter: tuple[str, _Node] | None = None
    proxy: tuple[str, _Node] | None = None


class RoutingTable:
    """Resources as a tree of path segments.

    A static segment wins over `{name}`, which wins over `{name+}`; at the resource found, the method itself wins over
    ANY. A resource that cannot answer the method is passed over for the next in this order. A trailing slash does not
    count.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-set-up-simple-proxy.html
    """

    def __init__(self, methods: Iterable[Method]) -> None:
        self._root = _Node()
        for method in methods:
            self._add(method)

    def _add(self, method: Method) -> None:
        node = self._root
        for segment in _segments(method.resource_path):
            if segment.startswith("{") and segment.endswith("+}"):
                if node.proxy is None:
                    node.proxy = (segment[1:-2], _Node())
                node = node.proxy[1]
            elif segment.startswith("{") and segment.endswith("}"):
                if node.parameter is None:
                    node.parameter = (segment[1:-1], _Node())
                node = node.parameter[1]
            else:
                node = node.static.setdefault(segment, _Node())
        node.methods[method.http_method.upper()] = method

    def match(self, http_method: str, raw_path: str) -> Match | None:
        """The method that answers, or None. `raw_path` starts after the stage and is still URL-encoded."""
        parameters: dict[str, str] = {}
        method = _descend(self._root, _segments(raw_path), 0, http_method, parameters)
        return None if method is None else Match(method, parameters)


def _segments(path: str) -> list[str]:
    trimmed = path.strip("/")
    return trimmed.split("/") if trimmed else []


def _descend(
    node: _Node, segments: list[str], position: int, http_method: str, parameters: dict[str, str]
) -> Method | None:
    if position == len(segments):
        return node.methods.get(http_method) or node.methods.get("ANY")
    segment = segments[position]
    # A static path part is stored as declared, a request may encode it.
    child = node.static.get(segment) or node.static.get(unquote(segment))
    if child is not None:
        found = _descend(child, segments, position + 1, http_method, parameters)
        if found is not None:
            return found
    if node.parameter is not None and segment:
        name, child = node.parameter
        found = _descend(child, segments, position + 1, http_method, parameters)
        if found is not None:
            parameters[name] = segment
            return found
    if node.proxy is not None:
        name, child = node.proxy
        found = child.methods.get(http_method) or child.methods.get("ANY")
        if found is not None:
            parameters[name] = "/".join(segments[position:])
            return found
    return None
