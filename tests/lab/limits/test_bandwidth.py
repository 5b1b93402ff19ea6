"""The account of CPU bandwidth, against a process that burns CPU on a clock of its own."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from lab.limits.bandwidth import Bandwidth

MS = 1_000_000
PERIOD = 20 * MS


class Burner:
    """A process with busy threads under the account: it runs while it may, on a clock that only moves here."""

    def __init__(self, vcpu, cpus=2, threads=1):
        self.now_ns = self.used_ns = 0
        self.threads = threads
        self.bandwidth = Bandwidth(vcpu=vcpu, cpus=cpus, period_ns=PERIOD, now_ns=0)
        self.decision = self.bandwidth.resume(now_ns=0, used_ns=0)

    def step(self, late_ns=0):
        """Pass the time until the next look, which comes late."""
        passed = self.decision.look_again_ns + late_ns - self.now_ns
        assert passed > 0
        self.now_ns += passed
        if self.decision.run:
            self.used_ns += passed * self.threads
        self.decision = self.bandwidth.look(now_ns=self.now_ns, used_ns=self.used_ns)

    def run_for(self, duration_ns):
        end = self.now_ns + duration_ns
        while self.now_ns < end:
            self.step()

    def call(self, needed_ns):
        """Use so much CPU time, and end."""
        end = self.used_ns + needed_ns
        while self.used_ns < end:
            passed = self.decision.look_again_ns - self.now_ns
            if self.decision.run:
                passed = min(passed, end - self.used_ns)
                self.used_ns += passed
            self.now_ns += passed
            self.decision = self.bandwidth.look(now_ns=self.now_ns, used_ns=self.used_ns)

    def idle_until(self, now_ns):
        self.now_ns = now_ns
        self.decision = self.bandwidth.resume(now_ns=now_ns, used_ns=self.used_ns)


@given(
    vcpu=st.floats(0.05, 2.0),
    threads=st.integers(1, 4),
    late_ns=st.lists(st.integers(0, 30 * MS), min_size=1, max_size=300),
)
def test_use_never_exceeds_the_allowance_by_more_than_what_ran_before_a_late_look(vcpu, threads, late_ns):
    burner = Burner(vcpu, threads=min(threads, 2))
    for late in late_ns:
        burner.step(late)
        periods = burner.now_ns // PERIOD + 1
        unseen = (PERIOD + max(late_ns)) * burner.threads  # at most one stretch between two looks is not yet repaid
        assert burner.used_ns <= vcpu * PERIOD * periods + unseen


@given(vcpu=st.floats(0.05, 2.0), threads=st.integers(1, 2))
def test_a_busy_process_gets_its_share_in_the_long_run(vcpu, threads):
    burner = Burner(vcpu, threads=threads)
    burner.run_for(2000 * MS)
    expected = min(vcpu, threads) * burner.now_ns
    assert abs(burner.used_ns - expected) <= 2 * PERIOD  # one quota more at the start, one stretch at the end


@given(
    vcpu=st.floats(0.05, 1.0),
    calls=st.lists(st.tuples(st.integers(1, 15 * MS), st.integers(0, 50 * MS)), min_size=1, max_size=100),
)
@example(vcpu=0.29, calls=[(5 * MS, MS)] * 60)
def test_calls_in_quick_succession_get_one_quota_per_period_together(vcpu, calls):
    burner = Burner(vcpu)
    for needed_ns, pause_ns in calls:
        burner.call(needed_ns)
        periods = burner.now_ns // PERIOD + 1
        assert burner.used_ns <= vcpu * PERIOD * periods + 4 * MS + 5 * MS  # up to a tick beyond, and a slice kept
        burner.idle_until(burner.now_ns + pause_ns)


def test_a_short_call_runs_through_after_an_idle_time():
    burner = Burner(0.29)
    burner.run_for(200 * MS)
    burner.idle_until(1000 * MS)
    assert burner.decision.run
    used = burner.used_ns
    burner.step()
    # The whole quota, up to the tick that notices its end, and no debt of the calls before.
    assert round(0.29 * PERIOD) <= burner.used_ns - used <= round(0.29 * PERIOD) + 4 * MS


def test_the_phase_of_the_period_runs_on_while_idle():
    burner = Burner(0.25)
    burner.idle_until(10 * PERIOD + 18 * MS)
    burner.step()
    assert burner.now_ns == 11 * PERIOD  # the next refill is 2 ms away, not a whole period
    burner.step()
    assert burner.decision.run is False


def test_quota_is_not_saved_up():
    burner = Burner(0.25)
    for _ in range(10):  # it could run, and uses nothing
        burner.now_ns = burner.decision.look_again_ns
        burner.decision = burner.bandwidth.look(now_ns=burner.now_ns, used_ns=0)
    burner.used_ns += 6 * MS
    burner.now_ns += 6 * MS
    assert not burner.bandwidth.look(now_ns=burner.now_ns, used_ns=burner.used_ns).run


def test_what_is_left_of_a_slice_outlives_its_period():
    burner = Burner(0.4)
    # 2 ms before its end: the tick before, after 2 ms, found the 1 ms used up that an idle CPU keeps, and filled it.
    burner.idle_until(10 * PERIOD + 14 * MS)
    burner.step()
    assert burner.now_ns == 11 * PERIOD
    used = burner.used_ns
    burner.step()
    # A quota and 1 ms: what 4 of the slice's 5 ms leave, up to the tick that notices their end.
    granted = round(0.4 * PERIOD) + MS
    assert granted <= burner.used_ns - used <= granted + 4 * MS


def test_a_debt_is_repaid_before_the_process_runs_again():
    burner = Burner(0.25)
    decision = burner.bandwidth.look(now_ns=15 * MS, used_ns=15 * MS)  # three quotas in the first period
    assert not decision.run
    assert decision.look_again_ns == 3 * PERIOD


def test_a_share_of_all_cpus_is_never_stopped():
    burner = Burner(2.0, threads=2)
    for _ in range(50):
        burner.step(late_ns=MS)
        assert burner.decision.run


def test_another_share_starts_with_its_whole_quota():
    burner = Burner(0.25)
    burner.run_for(100 * MS)
    decision = burner.bandwidth.set_share(1.0, now_ns=burner.now_ns, used_ns=burner.used_ns)
    assert decision.run
