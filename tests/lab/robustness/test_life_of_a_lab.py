"""A lab that is killed or stopped in the middle of its work."""

import signal
import threading

import botocore.exceptions
import pytest

from tests.lab.robustness.support import (
    deploy,
    invoke,
    log_lines,
    new_name,
    nothing_left,
    processes_of_function,
    wait_until,
)
from tests.lab_support import start_lab

pytestmark = pytest.mark.slow


def in_the_background(lab, name, event):
    """Start an invoke in a thread; gives a function that waits for its outcome."""
    outcome = []

    def call():
        try:
            outcome.append(invoke(lab, name, event))
        except botocore.exceptions.BotoCoreError as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()

    def result():
        thread.join(600)
        assert outcome, "the call hangs"
        return outcome[0]

    return result


def test_a_killed_lab_leaves_nothing_behind_and_its_logs_are_there_after_a_restart(tmp_path, images):
    name = new_name()
    lab = start_lab(state=tmp_path, variables=images)
    with nothing_left(lab) as note:
        deploy(lab, name, rest=False)
        for number in range(5):
            assert invoke(lab, name, {"do": "echo", "number": number}) == (None, {"do": "echo", "number": number})
        wait_until(lambda: len(log_lines(lab, name, '"REPORT RequestId"')) == 5, "five REPORT lines")
        before = log_lines(lab, name)
        pending = in_the_background(lab, name, {"do": "sleep", "seconds": 3600})
        wait_until(lambda: len(log_lines(lab, name, "START")) == 6, "the sixth START")
        note()
        assert processes_of_function(name)
        lab.process.send_signal(signal.SIGKILL)
        lab.process.wait()
        assert isinstance(pending(), botocore.exceptions.BotoCoreError)
    wait_until(lambda: not processes_of_function(name), "the end of the function's processes")

    again = start_lab(state=tmp_path, variables=images)
    with nothing_left(again) as note:
        assert log_lines(again, name)[: len(before)] == before
        deploy(again, name, rest=False)
        assert invoke(again, name, {"do": "echo"}) == (None, {"do": "echo"})
        note()
        assert again.stop() == 0


def test_a_stopped_lab_ends_a_running_call_and_leaves_nothing_behind(tmp_path, images):
    name = new_name()
    lab = start_lab(state=tmp_path, variables=images)
    with nothing_left(lab) as note:
        deploy(lab, name, rest=False)
        assert invoke(lab, name, {"do": "fork"}) == (None, "forked")
        pending = in_the_background(lab, name, {"do": "sleep", "seconds": 3600})
        wait_until(lambda: len(log_lines(lab, name, "START")) == 2, "the second START")
        note()
        assert lab.stop(signal.SIGINT) == 0
        pending()
    wait_until(lambda: not processes_of_function(name), "the end of the function's processes")
