"""The search finds the capacity of servers whose capacity is known, in virtual time."""

import heapq
import math
import re

import numpy as np
import pytest

from core.statistics.rate_search import HighestRate, Search, Step, expected_calls, look, rate_text

RUNS = 20
LEAD_IN_S = 10.0


class SingleServer:
    """One server with an endless queue: exponential service, Poisson arrivals (M/M/1).

    A call takes longer than t with probability exp(-(service rate - arrival rate) t).
    """

    def __init__(self, service_rps, limit_s, seed):
        self.service_rps, self.limit_s = service_rps, limit_s
        self.random = np.random.default_rng(seed)

    def highest_rate(self, share):
        return self.service_rps - math.log(1 / share) / self.limit_s

    def offer(self, rate_rps, calls):
        """Follow Lindley's recursion: a call waits for the work that is left of those before it."""
        service_s = self.random.exponential(1 / self.service_rps, calls)
        gap_s = self.random.exponential(1 / rate_rps, calls)
        work = np.concatenate([[0.0], np.cumsum(service_s[:-1] - gap_s[1:])])
        waited_s = work - np.minimum.accumulate(work)
        return list(waited_s + service_s > self.limit_s)


class Servers:
    """Servers without a queue, as a function at its concurrency: a call that finds all busy is lost (Erlang B)."""

    def __init__(self, count, service_s, seed):
        self.count, self.service_s = count, service_s
        self.random = np.random.default_rng(seed)

    def highest_rate(self, share):
        low, high = 0.0, 10.0 * self.count
        while high - low > 1e-6:
            load = (low + high) / 2
            blocked = 1.0
            for number in range(1, self.count + 1):
                blocked = load * blocked / (number + load * blocked)
            low, high = (load, high) if blocked <= share else (low, load)
        return low / self.service_s

    def offer(self, rate_rps, calls):
        ends, lost = [], []
        arrivals = np.cumsum(self.random.exponential(1 / rate_rps, calls)).tolist()
        for at, service_s in zip(arrivals, self.random.exponential(self.service_s, calls).tolist(), strict=True):
            while ends and ends[0] <= at:
                heapq.heappop(ends)
            lost.append(len(ends) >= self.count)
            if not lost[-1]:
                heapq.heappush(ends, at + service_s)
        return lost


class Always:
    def __init__(self, missed):
        self.missed = missed

    def offer(self, rate_rps, calls):
        return [self.missed] * calls


def found(server, share, *, highest_rps=400.0, most_calls=10_000_000):
    search = Search(share, highest_rps, highest_rps / 1024, most_calls)
    steps = []
    while True:
        result, offer = look(steps, search)
        if offer is None:
            return result
        rate_rps, calls = offer
        assert search.lowest_rps <= rate_rps <= search.highest_rps
        lead_in = int(rate_rps * LEAD_IN_S)
        missed = server.offer(rate_rps, lead_in + calls)[lead_in:]
        steps.append(Step(rate_rps, sum(missed), len(missed)))


def test_a_search_finds_the_capacity_of_a_queue():
    result = found(SingleServer(30.0, 0.3, seed=1), 0.05)
    assert result.rate_rps == pytest.approx(20.0, rel=0.05)
    assert result.low_rps < result.rate_rps < result.high_rps


# Seeds that the rule was not tuned on.
@pytest.mark.slow
@pytest.mark.parametrize(("service_rps", "limit_s", "share"), [(30.0, 0.3, 0.05), (100.0, 0.2, 0.01)])
def test_the_capacity_of_a_queue_is_found_within_five_percent_in_twenty_of_twenty_runs(service_rps, limit_s, share):
    servers = [SingleServer(service_rps, limit_s, 1_000_000 + run) for run in range(RUNS)]
    truth = servers[0].highest_rate(share)
    assert [found(server, share).rate_rps for server in servers] == pytest.approx([truth] * RUNS, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "share"), [(2, 0.2), (4, 0.05), (20, 0.05), (20, 0.01), (100, 0.01)])
def test_the_capacity_of_a_limited_concurrency_is_found_within_five_percent_in_twenty_of_twenty_runs(count, share):
    servers = [Servers(count, 0.5, 2_000_000 + run) for run in range(RUNS)]
    truth = servers[0].highest_rate(share)
    assert [found(server, share).rate_rps for server in servers] == pytest.approx([truth] * RUNS, rel=0.05)


def test_a_server_that_always_answers_is_not_given_a_rate_that_nobody_offered():
    result = found(Always(False), 0.01, highest_rps=64.0)
    assert result.rate_rps is None
    assert "64 requests/s" in result.reason
    assert result.calls <= 2000


def test_a_server_that_never_answers_has_no_rate():
    result = found(Always(True), 0.01)
    assert result.rate_rps is None
    assert result.reason


def test_a_search_that_runs_out_of_calls_says_what_it_lacks():
    short = found(Servers(20, 0.5, 7), 0.05, most_calls=12_000)
    assert short.rate_rps is None
    assert re.findall(r"\d+", short.reason) == ["100", "99"]  # misses that it needs and has
    longer = found(Servers(20, 0.5, 7), 0.05, most_calls=20_000)
    assert longer.calls <= 20_000
    assert longer.low_rps < Servers(20, 0.5, 7).highest_rate(0.05) < longer.high_rps
    assert "2.2%" in longer.reason


def test_a_late_sender_ends_the_search():
    steps = [Step(40.0, 400, 400), Step(20.0, 10, 400, late=60)]
    result, offer = look(steps, Search(0.05, 40.0, 0.1, 100_000))
    assert offer is None
    assert result.rate_rps is None
    assert result.reason.startswith("the sender was late")


def test_the_same_steps_lead_to_the_same_next_one():
    search, server, steps = Search(0.05, 100.0, 0.1, 100_000), Servers(20, 0.5, 3), []
    for _ in range(20):
        _, (rate_rps, calls) = look(steps, search)
        assert look(list(steps), search)[1] == (rate_rps, calls)
        missed = server.offer(rate_rps, calls)
        steps.append(Step(rate_rps, sum(missed), len(missed)))


def test_misses_in_rows_widen_the_interval():
    def needed_calls(offer):
        search, steps = Search(0.1, 24.0, 0.1, 10_000_000), []
        while (offered := look(steps, search)[1]) is not None:
            missed = offer(*offered)
            steps.append(Step(offered[0], sum(missed), len(missed)))
        return look(steps, search)[0].calls

    random = np.random.default_rng(1)

    def scattered(rate_rps, calls):
        return list(random.random(calls) < 0.1 * (rate_rps / 12) ** 4)

    def in_rows(rate_rps, calls):
        return list(np.repeat(random.random(calls // 10 + 1) < 0.1 * (rate_rps / 12) ** 4, 10)[:calls])

    assert needed_calls(in_rows) > 3 * needed_calls(scattered), "ten times as many calls tell as much"


def test_the_result_as_text_has_the_interval_or_the_reason():
    text = rate_text(HighestRate(30.0, 29.0, 31.0, 40_000))
    assert re.findall(r"[\d,]*\d", text) == ["30", "29", "31", "40,000"]
    assert rate_text(HighestRate(None, None, None, 0, "no rate has held so far")).endswith("no rate has held so far")
    assert expected_calls(0.01) == 100 * expected_calls(1.0)
