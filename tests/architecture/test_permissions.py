"""policies/operator.json allows every call that measuring and collecting make, and none besides."""

from __future__ import annotations

import ast
import fnmatch
import json

import botocore.session
from botocore import xform_name

from core.paths import REPOSITORY

CALLERS = [
    REPOSITORY / "core" / "aws" / "cloud.py",
    REPOSITORY / "core" / "money" / "price_list.py",
    *(path for room in ("experiments", "analysis", "loadtests") for path in sorted((REPOSITORY / room).rglob("*.py"))),
]
# Asked for by UpdateSchedule, which hands the schedule's role on; no operation bears its name.
HANDED_ON = {"iam:PassRole"}
# Signed requests to the REST endpoint, which are no operation of a service.
SIGNED = {"execute-api:Invoke"}
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html, and so on for the others
NAMED_OTHERWISE = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "service-quotas:GetServiceQuota": "servicequotas:GetServiceQuota",
}


def words_of(path):
    """Methods called in a file, and every text in it: a paginator, a waiter and a service are named by a text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def services_in(path):
    """Services that a file makes a client of, by `cloud.client("...")` or by `_pages(cloud, "...", ...)`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
            if name in ("client", "_pages"):
                yield from texts[:1]


def action(service, operation):
    if service == "apigateway":  # its permissions are HTTP methods
        session = botocore.session.get_session()
        return f"apigateway:{session.get_service_model(service).operation_model(operation).http['method']}"
    return NAMED_OTHERWISE.get(f"{service}:{operation}", f"{service}:{operation}")


def actions_called():
    session = botocore.session.get_session()
    for path in CALLERS:
        words = set(words_of(path))
        # A client stays in the file that makes it, so a name says there which service's operation it is.
        for service in set(services_in(path)):
            for operation in session.get_service_model(service).operation_names:
                if xform_name(operation) in words:
                    yield action(service, operation)
            if "get_waiter" in words:
                waiters = session.get_waiter_model(service)
                for name in waiters.waiter_names:
                    if xform_name(name) in words:
                        yield action(service, waiters.get_waiter(name).operation)


def operator():
    return json.loads((REPOSITORY / "policies" / "operator.json").read_text(encoding="utf-8"))["Statement"]


def test_the_policy_allows_every_call_that_the_code_makes_and_no_other():
    called = set(actions_called())
    assert {"lambda:InvokeFunction", "lambda:GetFunction", "ecr:BatchDeleteImage", "apigateway:GET"} <= called
    assert {action for statement in operator() for action in statement["Action"]} - HANDED_ON - SIGNED == called


def test_the_policy_allows_every_path_of_the_gateway_that_the_code_asks_for():
    service = botocore.session.get_session().get_service_model("apigateway")
    words = {word for path in CALLERS if "apigateway" in set(services_in(path)) for word in words_of(path)}
    asked = {
        service.operation_model(name).http["requestUri"]
        for name in service.operation_names
        if xform_name(name) in words
    }
    patterns = [
        arn.rpartition(":")[2]
        for statement in operator()
        if statement["Action"] == ["apigateway:GET"]
        for arn in statement["Resource"]
    ]
    assert asked >= {"/restapis", "/apikeys/{api_Key}"}
    assert [path for path in asked if not any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)] == []
