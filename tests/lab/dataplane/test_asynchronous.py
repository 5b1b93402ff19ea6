"""Asynchronous invokes: accepted at once, run later, retried as configured, looked up by request id."""

import dataclasses

from tests.lab.dataplane.harness import reports, until

FLAKY = """
    import os, pathlib, time
    def handler(event, context):
        time.sleep(event.get("sleep", 0))
        print("attempt of", context.aws_request_id)
        if event.get("fail"): raise RuntimeError("not today")
        return "done"
"""


def settings(lab, **changes):
    lab.settings = dataclasses.replace(lab.settings, **changes)


async def fate_of(lab, result, *states):
    await until(lambda: lab.plane.fate(result.request_id).state in states, f"the fate {states}")
    return lab.plane.fate(result.request_id)


async def test_an_event_is_accepted_at_once_and_runs_once(lab):
    lab.function(FLAKY)
    async with lab:
        result = await lab.call(event={}, invocation_type="Event")
        assert (result.status, result.payload) == (202, b"")
        fate = await fate_of(lab, result, "succeeded")
        assert (fate.attempts, fate.error) == (1, "")
    lines = lab.logs.lines("function")
    assert lines.count(f"attempt of {result.request_id}") == 1
    assert lab.metrics.values["function", "AsyncEventsReceived"] == [1]


async def test_a_failing_event_is_tried_as_often_as_configured_under_one_request_id(lab):
    settings(lab, time_scale=200.0)  # a minute and two become 0.3 s and 0.6 s
    lab.function(FLAKY, maximum_event_age_s=10_000_000)
    lab.function(FLAKY, "once", maximum_retry_attempts=0)
    async with lab:
        thrice = await lab.call(event={"fail": True}, invocation_type="Event")
        once = await lab.call("once", event={"fail": True}, invocation_type="Event")
        fate = await fate_of(lab, thrice, "failed")
        assert fate.attempts == 3
        assert "not today" in fate.error
        assert (await fate_of(lab, once, "failed")).attempts == 1
        await until(lambda: len(reports(lab.logs.lines("function"))) == 3, "three reports")
    assert [report["request_id"] for report in reports(lab.logs.lines("function"))] == [thrice.request_id] * 3
    assert lab.metrics.values["once", "AsyncEventsDropped"] == [1]


async def test_a_throttled_event_waits_and_runs_when_there_is_room(lab):
    settings(lab, time_scale=20.0)
    lab.function(FLAKY, reserved_concurrency=1)
    async with lab:
        results = [await lab.call(event={"sleep": 0.3}, invocation_type="Event") for _ in range(3)]
        fates = [await fate_of(lab, result, "succeeded", "failed") for result in results]
    assert [fate.state for fate in fates] == ["succeeded"] * 3
    assert sum(fate.throttles for fate in fates) > 0


async def test_an_event_that_has_grown_too_old_is_dropped(lab):
    settings(lab, time_scale=100.0)
    lab.function(FLAKY, reserved_concurrency=0, maximum_event_age_s=60)
    async with lab:
        result = await lab.call(event={}, invocation_type="Event")
        fate = await fate_of(lab, result, "expired")
    assert fate.attempts == 0
    assert "60 s" in fate.error


async def test_a_full_queue_throttles_the_sender(lab):
    settings(lab, async_queue_capacity=2)
    lab.function(FLAKY, reserved_concurrency=0)
    async with lab:
        results = [await lab.call(event={}, invocation_type="Event") for _ in range(3)]
    assert [result.status for result in results] == [202, 202, 429]


async def test_fates_are_kept_up_to_a_bound_and_unfinished_ones_always(lab):
    settings(lab, async_fates_kept=3)
    lab.function(FLAKY)
    async with lab:
        slow = await lab.call(event={"sleep": 600}, invocation_type="Event")
        done = []
        for _ in range(6):
            result = await lab.call(event={}, invocation_type="Event")
            await fate_of(lab, result, "succeeded")
            done.append(result)
        known = [lab.plane.fate(result.request_id) is not None for result in done]
        assert known == [False] * 3 + [True] * 3
        assert lab.plane.fate(slow.request_id) is not None


async def test_events_that_wait_when_the_lab_closes_say_so(lab):
    lab.function(FLAKY, reserved_concurrency=0)
    async with lab:
        result = await lab.call(event={}, invocation_type="Event")
        await until(lambda: lab.plane.fate(result.request_id).throttles, "the event to wait for room")
    assert lab.plane.fate(result.request_id).state == "dropped"


async def test_a_dry_run_runs_nothing(lab):
    lab.function(FLAKY)
    async with lab:
        result = await lab.call(event={}, invocation_type="DryRun")
    assert result.status == 204
    assert not lab.logs.events
