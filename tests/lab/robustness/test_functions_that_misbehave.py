"""Each misbehaviour of a function has a defined answer, and the lab serves the next call."""

import json
import os
import signal
import threading

from tests.lab.robustness.support import invoke, log_lines, processes_of_function, wait_until


def works(lab, name):
    return invoke(lab, name, {"do": "echo", "still": "here"}) == (None, {"do": "echo", "still": "here"})


def test_an_environment_that_is_killed_in_the_middle_of_a_call_is_an_exit_error(shared):
    lab, name, _ = shared
    outcome = []
    before = len(log_lines(lab, name, "START"))
    thread = threading.Thread(target=lambda: outcome.append(invoke(lab, name, {"do": "sleep", "seconds": 3600})))
    thread.start()
    wait_until(lambda: len(log_lines(lab, name, "START")) > before, "START")
    for pid in processes_of_function(name):
        os.kill(pid, signal.SIGKILL)
    thread.join()
    ((error, payload),) = outcome
    assert error == "Unhandled"
    assert payload["errorType"] == "Runtime.ExitError"
    assert "signal: killed" in payload["errorMessage"]
    assert works(lab, name)


def test_a_full_tmp_is_the_functions_own_error(shared):
    lab, name, _ = shared
    error, payload = invoke(lab, name, {"do": "fill_tmp"})
    assert error is None
    assert payload["errno"] == 28
    # Lambda's default: 512 MB.
    assert 500 <= payload["megabytes"] <= 540
    assert works(lab, name)


def test_ten_megabytes_of_output_are_all_logged(shared):
    lab, name, _ = shared
    assert invoke(lab, name, {"do": "print_much", "bytes": 10_000_000}) == (None, "printed")
    line = "x" * 999
    wait_until(
        lambda: sum(1 for message in log_lines(lab, name, line) if message.strip() == line) == 10_000,
        "ten thousand lines",
    )
    assert works(lab, name)


def test_a_fork_does_not_hold_up_the_answer(shared):
    lab, name, _ = shared
    assert invoke(lab, name, {"do": "fork"}) == (None, "forked")
    assert works(lab, name)


def test_malformed_runtime_api_calls_are_refused_and_disturb_nobody(shared):
    lab, name, _ = shared
    error, statuses = invoke(lab, name, {"do": "malformed_runtime_calls"})
    assert error is None, statuses
    assert all(400 <= status < 500 for status in statuses), statuses
    assert works(lab, name)


def test_a_function_slower_than_its_timeout_is_stopped_and_says_so(shared):
    lab, name, _ = shared
    lab.client("lambda").update_function_configuration(FunctionName=name, Timeout=1)
    try:
        error, payload = invoke(lab, name, {"do": "sleep", "seconds": 3600})
    finally:
        lab.client("lambda").update_function_configuration(FunctionName=name, Timeout=900)
    assert error == "Unhandled"
    assert "Task timed out after 1.00 seconds" in json.dumps(payload)
    assert works(lab, name)
