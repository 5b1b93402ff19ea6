"""The catalogue shows a function as its last change left it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.awslambda.models import EventInvokeConfig, lambda_backends
from moto.iam.models import iam_backends

from lab.contracts import ACCOUNT_ID
from lab.services.functions.catalogue import DEFAULT_RETRY_ATTEMPTS, LabFunction, MotoFunctionCatalogue

REGION = "us-east-1"
SPECIFICATION: dict[str, Any] = {
    "FunctionName": "f",
    "Code": {"ImageUri": "r:t"},
    "PackageType": "Image",
    "Role": f"arn:aws:iam::{ACCOUNT_ID}:role/catalogue",
}


@pytest.fixture(scope="module", autouse=True)
def role() -> Iterator[None]:
    """The role that a function has to have."""
    roles = iam_backends[ACCOUNT_ID]["aws"]
    made = roles.create_role("catalogue", "{}", "/", None, "", {}, 3600)
    yield
    roles.delete_role(made.name)


@given(st.lists(st.none() | st.integers(0, 2), min_size=2, max_size=20))
def test_each_change_of_the_retries_is_seen_at_the_next_look(retries: list[int | None]) -> None:
    functions = lambda_backends[ACCOUNT_ID][REGION]._lambdas
    function = LabFunction(ACCOUNT_ID, SPECIFICATION, REGION, "$LATEST")
    functions.put_function(function)
    catalogue = MotoFunctionCatalogue(ACCOUNT_ID, REGION, 10)
    try:
        for attempts in retries:
            function.event_invoke_config = []  # an object made now often gets the address of the one before
            if attempts is not None:
                settings = {"MaximumRetryAttempts": attempts}
                function.event_invoke_config = [EventInvokeConfig(function.function_arn, "", settings)]
            found = catalogue.get("f")
            assert found is not None
            assert found.maximum_retry_attempts == (DEFAULT_RETRY_ATTEMPTS if attempts is None else attempts)
    finally:
        functions.del_function("f")
