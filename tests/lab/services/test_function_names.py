"""Every operation of Lambda takes a function by its name, its partial ARN and its ARN.

https://github.com/localstack/localstack/issues/3954 and pull request 10961 there: other stand-ins took some forms in
some operations.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab_support import Lab

NAME = "by-any-name"
FORMS = [
    NAME,
    f"function:{NAME}",
    f"123456789012:function:{NAME}",
    f"arn:aws:lambda:us-east-1:123456789012:function:{NAME}",
]
OPERATIONS: list[tuple[str, dict[str, Any]]] = [
    ("get_function", {}),
    ("get_function_configuration", {}),
    ("update_function_configuration", {"Description": "changed"}),
    ("put_function_concurrency", {"ReservedConcurrentExecutions": 3}),
    ("get_function_concurrency", {}),
    ("put_function_event_invoke_config", {"MaximumRetryAttempts": 1}),
    ("get_function_event_invoke_config", {}),
]


@pytest.fixture(scope="module", autouse=True)
def function(shared_lab: Lab) -> None:
    role = shared_lab.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    code = {"ImageUri": shared_lab.push_image()}
    shared_lab.client("lambda").create_function(FunctionName=NAME, PackageType="Image", Code=code, Role=role)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("operation", "arguments"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_an_operation_takes_every_form_of_a_name(
    shared_lab: Lab, operation: str, arguments: dict[str, Any], form: str
) -> None:
    assert getattr(shared_lab.client("lambda"), operation)(FunctionName=form, **arguments)


@pytest.mark.parametrize("form", FORMS)
def test_a_name_may_carry_its_qualifier(shared_lab: Lab, form: str) -> None:
    found = shared_lab.client("lambda").get_function(FunctionName=f"{form}:$LATEST")
    assert found["Configuration"]["FunctionName"] == NAME


MISSING = "arn:aws:lambda:us-east-1:123456789012:function:missing"
MISSING_FORMS = ["missing", "function:missing", "123456789012:function:missing", MISSING]
INVOKES: list[tuple[str, dict[str, Any]]] = [
    ("invoke", {"InvocationType": kind}) for kind in ("RequestResponse", "Event", "DryRun")
]
QUALIFIED = [*INVOKES, *OPERATIONS[:2]]


def refusal(lab: Lab, operation: str, **arguments: Any) -> str:
    """The message of a 404."""
    client = lab.client("lambda")
    with pytest.raises(client.exceptions.ResourceNotFoundException) as refused:
        getattr(client, operation)(**arguments)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    return str(refused.value.response["Error"]["Message"])


@pytest.mark.parametrize("form", MISSING_FORMS)
@pytest.mark.parametrize(("operation", "arguments"), [*INVOKES, *OPERATIONS, ("delete_function", {})])
def test_a_function_that_is_missing_is_named_by_its_arn(
    shared_lab: Lab, operation: str, arguments: dict[str, Any], form: str
) -> None:
    assert refusal(shared_lab, operation, FunctionName=form, **arguments) == f"Function not found: {MISSING}"


@pytest.mark.parametrize("qualifier", ["7", "live", "$LATEST"])
@pytest.mark.parametrize("form", MISSING_FORMS)
@pytest.mark.parametrize(("operation", "arguments"), QUALIFIED)
def test_a_function_that_is_missing_is_named_with_the_qualifier(
    shared_lab: Lab, operation: str, arguments: dict[str, Any], form: str, qualifier: str
) -> None:
    for named in ({"FunctionName": f"{form}:{qualifier}"}, {"FunctionName": form, "Qualifier": qualifier}):
        message = refusal(shared_lab, operation, **named, **arguments)
        assert message == f"Function not found: {MISSING}:{qualifier}"


@pytest.mark.parametrize("form", FORMS)
def test_a_version_that_is_missing_is_named_by_its_arn(shared_lab: Lab, form: str) -> None:
    for operation, arguments in INVOKES:
        for named in ({"FunctionName": f"{form}:7"}, {"FunctionName": form, "Qualifier": "7"}):
            assert refusal(shared_lab, operation, **named, **arguments) == f"Function not found: {FORMS[-1]}:7"
