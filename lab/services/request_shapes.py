"""Where a request departs from AWS's own model of the service, as botocore has it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from botocore.exceptions import BotoCoreError
from botocore.model import OperationModel, OperationNotFoundError, ServiceModel, Shape
from botocore.validate import ParamValidator
from moto.core.utils import get_service_model

from core import strict_json

_MODELS: Final = {"monitoring": "cloudwatch"}  # botocore's names where they are not those of the signature
_PARAMETER: Final = re.compile(r"\{(\w+)(\+?)\}")


def violation(service: str, method: str, path: str, target: str, body: bytes) -> str | None:
    """Describe each violation; None if there is none, or if the operation is unknown.

    `path` carries no query, `target` is the X-Amz-Target header, or "". Of the query protocol, whose values are all
    text, required parameters are looked at; of the others, the types of the body's members as well.
    """
    try:
        model: ServiceModel = get_service_model(_MODELS.get(service, service))
        if target:
            shape = model.operation_model(target.rpartition(".")[2]).input_shape
            problems = _of_value(strict_json.loads(body or b"{}"), shape) if shape else []
        elif (action := (fields := dict(parse_qsl(body.decode(errors="replace")))).get("Action")) is not None:
            problems = _of_form(fields, model.operation_model(action))
        else:
            operation = _routed(model, method, path)
            problems = _of_document(strict_json.loads(body or b"{}"), operation) if operation else []
    except (BotoCoreError, OperationNotFoundError, ValueError):
        return None
    return f"{len(problems)} validation error(s) detected: {'; '.join(problems)}" if problems else None


def _of_value(value: Any, shape: Shape) -> list[str]:
    try:
        report = ParamValidator().validate(value, shape)
    except (OverflowError, RuntimeError):  # botocore's own, at a time that it cannot write down
        return ["a timestamp is outside the calendar"]
    return str(report.generate_report()).splitlines() if report.has_errors() else []


def _of_form(fields: Mapping[str, str], operation: OperationModel) -> list[str]:
    shape = operation.input_shape
    keys = (
        {name: shape.members[name].serialization.get("name", name) for name in shape.required_members} if shape else {}
    )
    return [
        _missing(name)
        for name, key in keys.items()
        if not any(field == key or field.startswith(f"{key}.") for field in fields)
    ]


def _of_document(document: Any, operation: OperationModel) -> list[str]:
    """Of a REST operation the members of its JSON body; those of its path and query have led to the operation."""
    shape = operation.input_shape
    if shape is None or "payload" in shape.serialization:
        return []
    if not isinstance(document, dict):
        return [f"the body is {type(document).__name__}; expected an object"]
    problems = []
    for name, member in shape.members.items():
        key = member.serialization.get("name", name)
        if "location" in member.serialization:
            continue
        if document.get(key) is not None:
            problems += [f"{name}: {problem}" for problem in _of_value(document[key], member)]
        elif name in shape.required_members:
            problems.append(_missing(name))
    return problems


def _routed(model: ServiceModel, method: str, path: str) -> OperationModel | None:
    """The operation of a REST protocol that has this method and path."""
    for name in model.operation_names if model.metadata.get("protocol") == "rest-json" else ():
        operation = model.operation_model(name)
        address = operation.http["requestUri"]
        pattern = _PARAMETER.sub(lambda found: ".+" if found[2] else "[^/]+", address)
        if operation.http["method"] == method and "?" not in address and re.fullmatch(f"{pattern.rstrip('/')}/?", path):
            return operation
    return None


def _missing(name: str) -> str:
    return f'Missing required parameter in input: "{name}"'
