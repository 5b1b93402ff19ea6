"""A request's way through a real function, and what the platform writes about it."""

import asyncio
import dataclasses
import json
import re

from tests.lab.dataplane.harness import conditions, reports, until

ECHO = """
    calls = 0
    def handler(event, context):
        global calls
        calls += 1
        return {"event": event, "calls": calls}
"""


async def test_a_cold_call_reports_its_init_and_a_warm_call_does_not(lab):
    lab.function(ECHO)
    async with lab:
        assert await lab.answer(event=1) == {"event": 1, "calls": 1}
        assert await lab.answer(event=2) == {"event": 2, "calls": 2}
        await until(lambda: len(reports(lab.logs.lines("function"))) == 2, "two reports")
    cold, warm = reports(lab.logs.lines("function"))
    assert cold["init_ms"] is not None
    assert warm["init_ms"] is None
    assert int(cold["billed_ms"]) >= float(cold["init_ms"])
    assert int(cold["max_mb"]) > 5
    assert len(lab.logs.streams("function")) == 1


async def test_start_output_end_report_and_conditions_stand_in_order(lab):
    lab.function(
        """
        import logging, sys
        print("from the module")
        def handler(event, context):
            print("one")
            sys.stderr.write("two\\n")
            logging.getLogger().warning("three\\nstays one event")
            sys.stdout.write("four, without its end of line")
        """
    )
    async with lab:
        result = await lab.call(log_tail=True)
    ((stream, lines),) = lab.logs.streams("function").items()
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", stream)
    request_id = result.request_id
    assert lines[0] == "from the module"
    assert lines[1] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[2:4] == ["one", "two"]
    assert lines[4].startswith("[WARNING]\t")
    assert lines[4].endswith(f"{request_id}\tthree\nstays one event")
    assert lines[5] == "four, without its end of line"
    assert lines[6] == f"END RequestId: {request_id}"
    assert lines[7].startswith(f"REPORT RequestId: {request_id}\t")
    assert json.loads(lines[8])["record"]["requestId"] == request_id
    assert len(lines) == 9, lines
    assert result.log_tail.decode() == "\n".join([*lines, ""])


async def test_an_exception_is_an_unhandled_function_error(lab):
    lab.function("def handler(event, context):\n    raise KeyError('nothing here')")
    async with lab:
        result = await lab.call()
        again = await lab.call()
    assert result.status == 200
    assert result.function_error == "Unhandled"
    body = json.loads(result.payload)
    assert body["errorType"] == "KeyError"
    assert body["errorMessage"] == "'nothing here'"
    assert again.function_error == "Unhandled"
    first, second = reports(lab.logs.lines("function"))
    assert first["status"] is None  # the runtime has reported the error, so for the platform the invocation went well
    assert first["error_type"] is None
    assert second["init_ms"] is None  # the environment lives on
    assert any(line.startswith("[ERROR] KeyError: 'nothing here'\nTraceback") for line in lab.logs.lines("function"))


async def test_concurrent_requests_run_one_an_environment(lab):
    lab.function(
        """
        import time, os
        def handler(event, context):
            time.sleep(0.3)
            return os.getpid()
        """
    )
    async with lab:
        pids = await asyncio.gather(*(lab.answer() for _ in range(6)))
        assert len(set(pids)) == 6
        assert lab.plane.environments == 6
    assert len(reports(lab.logs.lines("function"))) == 6


async def test_calls_one_after_another_stay_in_one_environment(lab):
    lab.function(ECHO)
    async with lab:
        for number in range(1, 200):
            assert await lab.answer(event=number) == {"event": number, "calls": number}
        assert lab.plane.environments == 1


async def test_the_caller_going_away_does_not_stop_the_function(lab):
    lab.function(
        """
        import time
        def handler(event, context):
            print("begun", flush=True)
            time.sleep(0.5)
            print("finished all the same")
        """
    )
    async with lab:
        await lab.call(event="warm")
        task = asyncio.ensure_future(lab.call())
        await until(lambda: lab.logs.lines("function").count("begun") == 2, "the second call to begin")
        task.cancel()
        await until(lambda: len(reports(lab.logs.lines("function"))) == 2, "the second report")
    assert lab.logs.lines("function").count("finished all the same") == 2


async def test_metrics_of_each_invocation_are_written(lab):
    lab.function("def handler(event, context):\n    return 1 / event")
    async with lab:
        await lab.call(event=1)
        await lab.call(event=0)
    values = lab.metrics.values
    assert values["function", "Invocations"] == [1, 1]
    assert values["function", "Errors"] == [0, 1]
    assert values["function", "ConcurrentExecutions"] == [1, 1]
    assert len(values["function", "Duration"]) == 2


async def test_every_invocation_says_under_which_conditions_it_ran(lab):
    lab.function(ECHO)
    async with lab:
        await lab.call()
        limits = lab.plane.limits
    (record,) = conditions(lab.logs.lines("function"))
    assert record["limits"] == limits.mechanism
    assert record["timeScale"] == 1
    assert record["contendedBy"] in ("", "others")  # programs beside the tests
    assert record["hostContended"] is bool(record["contendedBy"])
    assert record["majorPageFaults"] >= 0


async def test_an_unknown_function_and_an_unknown_qualifier_are_not_found(lab):
    lab.function(ECHO)
    async with lab:
        missing = await lab.call("nobody")
        alias = await lab.call(qualifier="live")
        behind_the_name = await lab.call("function:7")
        latest = await lab.call("function:$LATEST", qualifier="$LATEST")
    assert (missing.status, missing.error_code) == (404, "ResourceNotFoundException")
    assert (alias.status, alias.error_code) == (404, "ResourceNotFoundException")
    assert alias.extra["message"].endswith(":function:function:live")
    assert behind_the_name.status == 404
    assert latest.status == 200


async def test_the_client_context_and_trace_reach_the_function(lab):
    lab.function(
        """
        import os
        def handler(event, context):
            return [context.client_context.custom, os.environ["_X_AMZN_TRACE_ID"], context.aws_request_id,
                    context.invoked_function_arn, context.get_remaining_time_in_millis()]
        """
    )
    async with lab:
        result = await lab.call(
            client_context='{"custom": {"a": 1}}', trace_id="Root=1-5759e988-bd862e3fe1be46a994272793"
        )
    custom, trace, request_id, arn, remaining_ms = json.loads(result.payload)
    assert custom == {"a": 1}
    assert trace == "Root=1-5759e988-bd862e3fe1be46a994272793"
    assert request_id == result.request_id
    assert arn.endswith(":function:function")
    assert 0 < remaining_ms <= 900_000


async def test_a_version_runs_beside_the_latest_in_environments_of_its_own(lab):
    lab.function(
        """
        import os
        def handler(event, context):
            return [os.environ["AWS_LAMBDA_FUNCTION_VERSION"], context.function_version, context.invoked_function_arn]
        """,
        name="echo",
    )
    published = dataclasses.replace(lab.catalogue.functions["echo"], version="1", reserved_concurrency=1)
    lab.catalogue.functions["echo:1"] = published
    lab.change("echo", reserved_concurrency=1)
    async with lab:
        arn = lab.catalogue.arn("echo")
        assert await lab.answer("echo") == ["$LATEST", "$LATEST", arn]
        one = await lab.call("echo", qualifier="1")
        assert json.loads(one.payload) == ["1", "1", f"{arn}:1"]
        assert one.executed_version == "1"
        assert (await lab.call("echo:1")).executed_version == "1"
        assert lab.plane.environments == 2
    streams = lab.logs.streams("echo")
    assert sorted(stream.split("]")[0].rpartition("[")[2] for stream in streams) == ["$LATEST", "1"]
    assert [line for lines in streams.values() for line in lines if "Version: 1" in line]


async def test_versions_of_a_function_share_its_reserved_concurrency(lab):
    lab.function("import time\ndef handler(event, context):\n    print('runs', flush=True)\n    time.sleep(event or 0)")
    lab.change("function", reserved_concurrency=1)
    lab.catalogue.functions["function:1"] = dataclasses.replace(lab.catalogue.functions["function"], version="1")
    async with lab:
        running = asyncio.ensure_future(lab.call(event=60))
        await until(lambda: "runs" in lab.logs.lines("function"), "the call to run")
        throttled = await lab.call(qualifier="1")
        assert throttled.error_code == "TooManyRequestsException"
        running.cancel()
