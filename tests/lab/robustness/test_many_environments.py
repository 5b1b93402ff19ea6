"""A hundred environments of one function at the same moment, each a process of its own."""

import json
import socket
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.page import ACTIVITY_PATH
from tests.lab.robustness.support import deploy, new_name, wait_until

COUNT = 100
LINES = 40  # as in plain_runtime
ROUNDS = 2


def events_of(lab, name):
    """(log stream, message) of every event, by FilterLogEvents."""
    pages = lab.client("logs").get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}")
    return [(event["logStreamName"], event["message"]) for page in pages for event in page["events"]]


def states_of(lab, name):
    with urllib.request.urlopen(lab.url + ACTIVITY_PATH, timeout=600) as answer:
        environments = json.load(answer)["environments"]
    return {one["state"] for one in environments if one["function"].partition(":")[0] == name}


def test_no_line_is_lost_or_reordered_under_a_hundred_concurrent_invocations(shared):
    lab, _, _ = shared
    name = new_name()
    deploy(lab, name, memory_mb=128, timeout_s=600, rest=False, directory=Path(__file__).parent / "plain_runtime")
    client = lab.client("lambda", max_pool_connections=COUNT, read_timeout=600)

    def call(door):
        answer = client.invoke(FunctionName=name, Payload=json.dumps({"door": door}).encode())
        return answer.get("FunctionError"), json.loads(answer["Payload"].read())

    answers = []
    with ThreadPoolExecutor(COUNT) as callers, socket.create_server(("127.0.0.1", 0), backlog=COUNT) as door:
        door.settimeout(600)
        for _ in range(ROUNDS):
            calls = [callers.submit(call, door.getsockname()[1]) for _ in range(COUNT)]
            # Nobody is let in before all are there: they are a hundred processes, and print at the same time.
            waiting = [door.accept()[0] for _ in range(COUNT)]
            for one in waiting:
                one.close()
            answers += [one.result() for one in calls]
            # A request does not wait for long for an environment that is not idle yet.
            wait_until(lambda: states_of(lab, name) <= {"idle", "frozen"}, "every environment to be idle")
    assert {error for error, _ in answers} == {None}
    request_ids = {request_id for _, request_id in answers}
    assert len(request_ids) == ROUNDS * COUNT

    wait_until(
        lambda: sum(message.startswith("REPORT ") for _, message in events_of(lab, name)) == len(answers), "all reports"
    )
    streams = defaultdict(list)
    for stream, message in events_of(lab, name):
        streams[stream].append(message)
    assert len(streams) == COUNT
    printed = {}
    for messages in streams.values():
        current = None
        for message in messages:
            word, _, rest = message.partition(" RequestId: ")
            if word == "START":
                assert current is None
                current = rest.split()[0]
                printed[current] = []
            elif word == "END":
                assert rest == current
                current = None
            elif word != "REPORT" and not message.startswith(("{", "INIT_REPORT ")):  # of an init over its time
                printed[current].append(message)
    assert printed == {request_id: [f"{request_id} {number}" for number in range(LINES)] for request_id in request_ids}
