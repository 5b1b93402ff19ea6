"""Ctrl-C ends the main greenlet, whichever greenlet runs when it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

from core.paths import REPOSITORY

PROGRAM = """
import gevent
from loadtests.interruption import interrupt_main_greenlet

interrupt_main_greenlet()
rounds = 0

def work():
    global rounds
    print("at work", flush=True)
    while True:
        sum(range(100_000))  # most of the time, the signal finds this greenlet here
        rounds += 1
        gevent.sleep(0)

worker = gevent.spawn(work)
try:
    worker.join()
except KeyboardInterrupt:
    before = rounds
    while rounds < before + 3:
        gevent.sleep(0)
    print("interrupted, and the worker works on", flush=True)
"""


def test_ctrl_c_reaches_the_main_greenlet_and_no_other():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out, err) == (0, "interrupted, and the worker works on\n", "")
