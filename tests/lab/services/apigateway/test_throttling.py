"""Stage and method throttles, API keys and usage plans as a stack declares them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.services.apigateway.api import Throttle
from lab.services.apigateway.throttling import TokenBucket
from tests.lab.services.apigateway.helpers import run


def ok(_event):
    return {"statusCode": 200, "body": "{}"}


async def statuses(served, path, count, **kwargs):
    return [(await served.send("GET", path, **kwargs))[0] for _ in range(count)]


def test_a_stage_throttle_answers_429_beyond_its_burst(api, invoker):
    api.method("/a", "GET", "f")
    api.deploy()
    api.patch_stage(**{"/*/*/throttling/rateLimit": 0.001, "/*/*/throttling/burstLimit": 3})
    invoker.functions["f"] = ok

    async def body(served):
        codes = await statuses(served, api.path("/a"), 5)
        return codes, await served.send("GET", api.path("/a")), served.metrics

    codes, (_, headers, answer), metrics = run(invoker, body)
    assert codes == [200, 200, 200, 429, 429]
    assert answer == b'{"message":"Too Many Requests"}'
    assert headers["x-amzn-ErrorType"] == "TooManyRequestsException"
    assert sum(metrics.named("4XXError", ApiName="lab-api", Stage="v1")) == 3
    assert len(invoker.events) == 3


def test_a_method_throttle_leaves_other_methods_alone(api, invoker):
    api.method("/a/{b}", "GET", "f")
    api.method("/c", "GET", "f")
    api.deploy()
    api.patch_stage(**{"/~1a~1{b}/GET/throttling/rateLimit": 0.001, "/~1a~1{b}/GET/throttling/burstLimit": 1})
    invoker.functions["f"] = ok

    async def body(served):
        return await statuses(served, api.path("/a/1"), 2), await statuses(served, api.path("/c"), 3)

    assert run(invoker, body) == ([200, 429], [200, 200, 200])


def usage_plan(api, *, throttle=None, quota=None, methods=None, enabled=True, stages=True):
    key = api.client.create_api_key(name="k", value="k" * 24, enabled=enabled)
    stage = {"apiId": api.id, "stage": api.stage, **({"throttle": methods} if methods else {})}
    plan = api.client.create_usage_plan(
        name="p",
        apiStages=[stage] if stages else [],
        **({"throttle": throttle} if throttle else {}),
        **({"quota": quota} if quota else {}),
    )
    api.client.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
    return key["value"]


def test_a_method_that_requires_a_key_refuses_a_request_without_a_valid_one(api, invoker):
    api.method("/", "GET", "f", apiKeyRequired=True)
    api.deploy()
    key = usage_plan(api)
    seen = []
    invoker.functions["f"] = lambda event: seen.append(event) or ok(event)

    async def body(served):
        sent = [{}, {"x-api-key": "wrong"}, {"x-api-key": key}]
        return [await served.send("GET", api.path("/"), headers=headers) for headers in sent]

    without, wrong, right = run(invoker, body)
    for status, headers, answer in (without, wrong):
        assert (status, json.loads(answer)) == (403, {"message": "Forbidden"})
        assert headers["x-amzn-ErrorType"] == "ForbiddenException"
    assert right[0] == 200
    assert seen[0]["requestContext"]["identity"]["apiKey"] == key
    assert seen[0]["requestContext"]["identity"]["apiKeyId"]


def test_a_disabled_key_and_a_key_without_a_plan_for_the_stage_are_refused(api, invoker):
    api.method("/", "GET", "f", apiKeyRequired=True)
    api.deploy()
    invoker.functions["f"] = ok
    key = usage_plan(api, stages=False)
    assert run(invoker, lambda served: served.send("GET", api.path("/"), headers={"x-api-key": key}))[0] == 403


def test_a_usage_plan_throttles_its_key(api, invoker):
    api.method("/", "GET", "f", apiKeyRequired=True)
    api.deploy()
    key = usage_plan(api, throttle={"rateLimit": 0.001, "burstLimit": 2})
    invoker.functions["f"] = ok
    assert run(invoker, lambda served: statuses(served, api.path("/"), 4, headers={"x-api-key": key})) == [
        200,
        200,
        429,
        429,
    ]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"quota": {"limit": 1, "period": "DAY"}}, "a quota in usage plan p"),
        ({"methods": {"//GET": {"rateLimit": 1, "burstLimit": 1}}}, "throttles of single methods in usage plan p"),
    ],
)
def test_a_limit_that_is_not_modeled_is_said(api, invoker, caplog, plan, said):
    api.method("/", "GET", "f", apiKeyRequired=True)
    api.deploy()
    key = usage_plan(api, **plan)
    assert run(invoker, lambda served: served.send("GET", api.path("/"), headers={"x-api-key": key}))[0] == 500
    assert said in caplog.text


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 5), max_size=200),
)
def test_no_window_ever_lets_more_through_than_burst_plus_rate(rate, burst, gaps):
    bucket = TokenBucket(Throttle(rate, burst), 0.0)
    now, passed = 0.0, []
    for gap in gaps:
        now += gap
        if bucket.take(now):
            passed.append(now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            window = passed[last] - passed[first]
            assert last - first + 1 <= burst + window * rate + 1e-6


def test_a_clock_that_steps_back_grants_nothing():
    bucket = TokenBucket(Throttle(1.0, 1), 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.1)
