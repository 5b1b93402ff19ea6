"""The runner over the real control plane (moto's scheduler backend), with a clock the test holds."""

import asyncio
import datetime as dt
import json
import time

import boto3
import pytest
from moto import mock_aws

from lab.contracts import InvokeResult
from lab.services.scheduler.moto_schedules import MotoSchedules
from lab.services.scheduler.runner import ScheduleRunner

ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"
KEYS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self):
        self.now = float(int(time.time()))

    def __call__(self):
        return self.now

    def catch_up(self):
        """The control plane dates a change by the real clock; a schedule is made at that time, not before it."""
        self.now = max(self.now, float(int(time.time())))


class Recorder:
    """The contract's Invoker for asynchronous calls: notes them, and answers what the test asks for."""

    def __init__(self):
        self.calls = []
        self.answers = []

    async def invoke(self, name_or_arn, payload, *, invocation_type="RequestResponse", **_):
        self.calls.append((name_or_arn, json.loads(payload), invocation_type))
        return self.answers.pop(0) if self.answers else InvokeResult(202, b"", "id")

    @property
    def times(self):
        return [event["time"] for _, event, _ in self.calls]


@pytest.fixture
def scheduler():
    with mock_aws():
        yield boto3.client("scheduler", **KEYS)


@pytest.fixture
def clock(monkeypatch):
    held = Clock()
    monkeypatch.setattr("moto.scheduler.models.unix_time", held)  # the control plane dates a change by it
    return held


@pytest.fixture
def recorder():
    return Recorder()


def target(**more):
    return {"Arn": ARN, "RoleArn": "arn:aws:iam::123456789012:role/r", **more}


def create(scheduler, clock, *, name="s", expression="rate(1 minutes)", start=0.0, end=None, **more):
    clock.catch_up()
    scheduler.create_schedule(
        Name=name,
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=more.pop("target", target()),
        StartDate=clock.now + start,
        **({"EndDate": clock.now + end} if end is not None else {}),
        **more,
    )


class CountedSchedules(MotoSchedules):
    """Knows how often the runner has looked."""

    looks = 0

    def definitions(self):
        self.looks += 1
        return super().definitions()


def play(clock, recorder, steps, *, time_scale=1.0):
    """Run the runner; each step is seconds to move the clock by, or a callable.

    A step is over when it has been noticed, and when nothing that fired waits for a retry.
    """

    async def main():
        source = CountedSchedules()
        runner = ScheduleRunner(source, recorder, time_scale=time_scale, now_s=clock, poll_s=0.01)
        runner.start()
        counts = []
        for step in steps:
            if callable(step):
                step()
            else:
                clock.now += step
            # A look that begins after the step has fired what was due when the one after it begins.
            looks = source.looks
            while source.looks < looks + 3 or runner._deliveries:  # noqa: ASYNC110 - it has no event for tests
                await asyncio.sleep(0.005)
            counts.append(len(recorder.calls))
        await runner.stop()
        return counts

    return asyncio.run(main())


def iso(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_rate_fires_at_start_date_and_then_every_interval_until_end_date(scheduler, clock, recorder):
    create(scheduler, clock, start=10, end=130)
    begin = clock.now
    assert play(clock, recorder, [0, 9, 1, 3, 57, 4, 4, 52, 4, 4, 4]) == [0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    assert recorder.times == [iso(begin + 10), iso(begin + 70)]


def test_the_end_date_itself_does_not_fire(scheduler, clock, recorder):
    create(scheduler, clock, start=0, end=4, expression="rate(1 minutes)")
    # An interval of two seconds: fires at 0 and 2, not at 4.
    assert play(clock, recorder, [0, 2, 2, 2, 2], time_scale=30)[-1] == 2


def test_a_start_date_far_before_the_change_does_not_fire_what_lies_between(scheduler, clock, recorder):
    create(scheduler, clock, start=-90)
    assert play(clock, recorder, [0, 4, 27]) == [0, 0, 1]


def test_a_schedule_is_an_asynchronous_invoke_with_the_event_that_aws_documents(scheduler, clock, recorder):
    create(scheduler, clock)
    begin = clock.now
    play(clock, recorder, [0])
    ((arn, event, invocation_type),) = recorder.calls
    assert (arn, invocation_type) == (ARN, "Event")
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": "123456789012",
        "time": iso(begin),
        "region": "us-east-1",
        "resources": ["arn:aws:scheduler:us-east-1:123456789012:schedule/default/s"],
        "detail": "{}",
    }


def test_an_input_is_sent_with_its_context_attributes_filled_in(scheduler, clock, recorder):
    text = json.dumps(
        {
            "arn": "<aws.scheduler.schedule-arn>",
            "at": "<aws.scheduler.scheduled-time>",
            "id": "<aws.scheduler.execution-id>",
            "n": "<aws.scheduler.attempt-number>",
        }
    )
    create(scheduler, clock, target=target(Input=text))
    begin = clock.now
    play(clock, recorder, [0])
    event = recorder.calls[0][1]
    assert event["arn"].endswith("schedule/default/s")
    assert (event["at"], event["n"]) == (iso(begin), "1")
    assert len(event["id"]) == 16


def test_a_disabled_schedule_does_not_fire_and_enabling_it_takes_effect_at_once(scheduler, clock, recorder):
    create(scheduler, clock, State="DISABLED")

    def enable():
        scheduler.update_schedule(
            Name="s",
            ScheduleExpression="rate(1 minutes)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target=target(),
            State="ENABLED",
            StartDate=clock.now,
            EndDate=clock.now + 3600,
        )

    def disable():
        scheduler.update_schedule(
            Name="s",
            ScheduleExpression="rate(1 minutes)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target=target(),
            State="DISABLED",
        )

    # StartDate and the schedule's own date of change are both read from the wall clock.
    assert play(clock, recorder, [0, enable, 4, disable, 60, 60]) == [0, 1, 1, 1, 1, 1]


def test_a_deleted_schedule_does_not_fire_again(scheduler, clock, recorder):
    create(scheduler, clock)
    assert play(clock, recorder, [0, lambda: scheduler.delete_schedule(Name="s"), 60]) == [1, 1, 1]


def test_an_update_repeats_nothing_that_has_fired(scheduler, clock, recorder):
    create(scheduler, clock)
    start = clock.now

    def update():
        scheduler.update_schedule(
            Name="s",
            ScheduleExpression="rate(1 minutes)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target=target(Input='{"time": "changed"}'),
            StartDate=start,
        )

    assert play(clock, recorder, [0, update, 4]) == [1, 1, 1]


def test_a_clock_that_steps_back_repeats_nothing(scheduler, clock, recorder):
    create(scheduler, clock)
    assert play(clock, recorder, [0, 4, -4, 4, -4, 4]) == [1, 1, 1, 1, 1, 1]


def test_what_a_suspended_machine_missed_fires_once(scheduler, clock, recorder):
    create(scheduler, clock)
    begin = clock.now
    assert play(clock, recorder, [0, 605, 4, 4]) == [1, 2, 2, 2]
    assert recorder.times[1] == iso(begin + 600)


def test_ticks_that_only_a_busy_moment_delayed_all_fire(scheduler, clock, recorder):
    create(scheduler, clock)
    # The control plane may have dated it a second later than the clock.
    clock.now = float(int(scheduler.get_schedule(Name="s")["LastModificationDate"].timestamp()))
    assert play(clock, recorder, [0, 4], time_scale=60) == [1, 5]


def test_a_rejected_invoke_is_tried_again_and_a_hopeless_one_is_not(scheduler, clock, recorder):
    create(scheduler, clock, target=target(RetryPolicy={"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60}))
    recorder.answers = [InvokeResult(429, b"", "id", error_code="TooManyRequestsException")]
    play(clock, recorder, [0])
    assert len(recorder.calls) == 2

    recorder.calls.clear()
    create(scheduler, clock, name="other")
    recorder.answers = [InvokeResult(404, b"", "id", error_code="ResourceNotFoundException")] * 9
    scheduler.delete_schedule(Name="s")
    play(clock, recorder, [0])
    assert len(recorder.calls) == 1


def test_a_fault_while_schedules_are_read_does_not_end_them(scheduler, clock, recorder, monkeypatch, caplog):
    create(scheduler, clock)
    faults, definitions = [RuntimeError("changed while it was read")], CountedSchedules.definitions
    monkeypatch.setattr(
        CountedSchedules, "definitions", lambda source: definitions(source) if not faults else _raise(faults.pop())
    )
    assert play(clock, recorder, [0]) == [1]
    assert "changed while it was read" in caplog.text


def _raise(fault):
    raise fault


def test_a_target_that_is_no_function_is_not_invoked(scheduler, clock, recorder):
    create(scheduler, clock, target={"Arn": "arn:aws:sqs:us-east-1:123456789012:q", "RoleArn": "r" * 20})
    assert play(clock, recorder, [0]) == [0]


def never_fires(caplog):
    return [record.message for record in caplog.records if "never fires" in record.message]


def test_a_schedule_that_never_fires_is_said_at_each_change_that_leaves_it_enabled(scheduler, clock, recorder, caplog):
    def update(state="ENABLED"):
        """Let it end before it begins."""
        scheduler.update_schedule(
            Name="s",
            ScheduleExpression="rate(1 days)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target=target(),
            State=state,
            EndDate=clock.now - 3600,
        )

    create(scheduler, clock, expression="rate(1 days)", start=60)
    said = []

    def count():
        said.append(len(never_fires(caplog)))

    steps = [update, count, lambda: update("DISABLED"), count, update, count, 4, count]
    assert play(clock, recorder, steps)[-1] == 0
    assert said == [1, 1, 2, 2]
    assert never_fires(caplog)[0].endswith("no time of rate(1 days) is left")


@pytest.mark.parametrize("expression", ["rate(99999999999999 days)", f"rate({'9' * 200} days)", "rate(100000 days)"])
def test_a_rate_that_ends_after_the_calendar_fires_at_its_start_alone(scheduler, clock, recorder, caplog, expression):
    create(scheduler, clock, expression=expression)
    assert play(clock, recorder, [0, 100_000, 4]) == [1, 1, 1]
    assert never_fires(caplog) == []
