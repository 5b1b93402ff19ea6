"""The catalogue shows a function as its last change left it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.awslambda.models import EventInvokeConfig, lambda_backends
from moto.iam.models import iam_backends

from lab.contracts import ACCOUNT_ID
from lab.services.functions.catalogue import (
    DEFAULT_RETRY_ATTEMPTS,
    LabFunction,
    LabLambdaBackend,
    MotoFunctionCatalogue,
    say_ignored,
)

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
    catalogue = MotoFunctionCatalogue(10)
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


def test_a_snapshot_is_taken_of_the_function_of_its_own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def take_snapshot(name_or_arn: str, version: str) -> Future[str]:
        asked.append((name_or_arn, version))
        failed: Future[str] = Future()
        failed.set_exception(RuntimeError())
        return failed

    monkeypatch.setattr(LabLambdaBackend, "take_snapshot", staticmethod(take_snapshot), raising=False)
    backend = LabLambdaBackend("eu-west-1", ACCOUNT_ID)
    specification = {**SPECIFICATION, "SnapStart": {"ApplyOn": "PublishedVersions"}}
    backend._lambdas.put_function(LabFunction(ACCOUNT_ID, specification, "eu-west-1", "$LATEST"))
    version, outcome = backend.publish("f")
    assert asked == [(f"arn:aws:lambda:eu-west-1:{ACCOUNT_ID}:function:f", "1")]
    assert outcome is not None
    assert outcome.result() == "RuntimeError()", "an exception without words is a failure, too"
    assert version is not None
    assert version.state == "Failed"


def test_settings_without_effect_are_said(caplog: pytest.LogCaptureFixture) -> None:
    queue = {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"}
    LabFunction(ACCOUNT_ID, {**SPECIFICATION, "DeadLetterConfig": queue}, REGION, "$LATEST")
    say_ignored("g", {"DestinationConfig": {"OnFailure": {"Destination": queue["TargetArn"]}}, "DeadLetterConfig": {}})
    assert [record.args for record in caplog.records] == [("f", "DeadLetterConfig"), ("g", "DestinationConfig")]
