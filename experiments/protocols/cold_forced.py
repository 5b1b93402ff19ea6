"""Cold starts on demand: change the configuration, wait until it holds, call.

Every environment of the old configuration is of the past after an update, so the next call starts a new one. That is a
new environment with cached image blocks: not the first call after a push, and not a natural idle time either. Whether
a sample did come out cold is decided by the function's own counter, never assumed.

With provisioned concurrency, a forced update gives two samples. The published version is called by its number while it
has no provisioned environment: it starts on demand, as a call does that spills over. Then the alias names it, and its
call is the first one in a provisioned environment.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from core.run.stops import Stop
from experiments.aws.http_timing import get_once
from experiments.aws.lambda_control import InvokeAnswer, Nonces
from experiments.checks.spend import billed_ms_in
from experiments.plan import (
    Burst,
    PlannedCall,
    bursts,
    forced_calls,
    spillover_call,
    still_to_make,
)
from experiments.protocols.gateway_timeouts import keep_reply
from experiments.protocols.recording import invoke_record
from experiments.session import Session
from loadtests.plan import gateway_patience_s


def run_forced(session: Session) -> None:
    """One direct invoke after each forced update, variants in turn."""
    _one_by_one(session, session.configuration.experiments.cold.forced_samples, through_gateway=False)


def run_gateway(session: Session) -> None:
    """The same through the REST endpoint, where a start of more than 29 s ends in a 504: that is its outcome.

    The next call waits until such a function has ended.
    """
    _one_by_one(session, session.configuration.experiments.cold.gateway_samples, through_gateway=True)


def run_bursts(session: Session) -> None:
    """N first calls at once after each forced update: what N users see who arrive together."""
    configuration = session.configuration
    cold = configuration.experiments.cold
    planned = bursts(configuration.variants, cold.burst_sizes, cold.burst_repeats, configuration.experiments.seed)
    todo = [burst for burst in planned if not all(session.log.is_done(call.call_id) for call in burst.calls)]
    session.progress.phase("cold, bursts", sum(burst.size for burst in todo), then_s=session.then_s)
    room = session.services.control.account_limits()["UnreservedConcurrentExecutions"]
    largest = max((burst.size for burst in todo), default=1)
    refused: set[tuple[str, int]] = set()
    with session.nonces() as nonces, ThreadPoolExecutor(max_workers=largest) as pool:
        for burst in todo:
            if burst.size > room:
                refused.add((burst.variant.key, burst.size))
            elif not session.log.cannot_run("cold", burst.variant):
                _send_burst(session, nonces, pool, burst)
            session.progress.advance(burst.size, burst.variant.display_name)
    for key, size in sorted(refused):
        detail = f"a burst of {size} needs more than the account's {room} concurrent executions; request a higher quota"
        session.stop(Stop("cold", f"burst-{size}", key, "none", "over_concurrency", detail, 0))
    _say_who_cannot_run(session, "burst")
    session.progress.end_phase()


def _one_by_one(session: Session, samples: int, *, through_gateway: bool) -> None:
    configuration = session.configuration
    calls = forced_calls(
        configuration.variants, samples, configuration.experiments.seed, through_gateway=through_gateway
    )
    name = "cold, through the gateway" if through_gateway else "cold, forced"
    todo = still_to_make(calls, {call_id: record.outcome for call_id, record in session.log.records.items()})
    session.progress.phase(name, len(todo), then_s=session.then_s)
    with session.nonces() as nonces:
        for call in todo:
            if not session.log.cannot_run("cold", call.variant):
                # Asked before the update, which changes what the logs are compared with.
                session.services.first_calls.is_first(call.variant)
                nonces.force(call.variant, call.call_id, partial(_call_on_demand, session, call))
                _send(session, call, first=session.services.first_calls.is_first(call.variant))
            session.progress.advance(1, call.variant.display_name)
    _say_who_cannot_run(session, "gateway" if through_gateway else "forced")
    session.progress.end_phase()


def _call_on_demand(session: Session, call: PlannedCall, version: str) -> None:
    """Call a version that has no provisioned environment yet, where it is about to get some."""
    spillover = spillover_call(call)
    if spillover is None or session.log.is_done(spillover.call_id):
        return
    first = session.services.first_calls.is_first(call.variant)
    answer = session.services.control.invoke(call.variant, version=version)
    session.services.first_calls.called(call.variant)
    _keep(session, spillover, answer, first=first)


def _send(session: Session, call: PlannedCall, *, first: bool) -> None:
    if call.trigger == "api":
        patience_s = gateway_patience_s(session.configuration.gateway)
        deployment = session.services.deployment
        reply = get_once(deployment.url(call.variant), deployment.access(call.variant), timeout_s=patience_s)
        keep_reply(session, call, reply, first=first)
    else:
        answer = session.services.control.invoke(call.variant)
        session.services.first_calls.called(call.variant)
        _keep(session, call, answer, first=first)


def _keep(session: Session, call: PlannedCall, answer: InvokeAnswer, *, first: bool) -> None:
    session.add(
        invoke_record(call, answer, run_id=session.run_id, time_scale=session.time_scale, first=first),
        billed_ms=billed_ms_in(answer.log_tail),
    )


def _send_burst(session: Session, nonces: Nonces, pool: ThreadPoolExecutor, burst: Burst) -> None:
    """Send a whole burst; after a kill, it is sent whole again, and only its missing calls are kept."""
    first = session.services.first_calls.is_first(burst.variant)
    nonces.force(burst.variant, burst.calls[0].group)
    together = threading.Barrier(burst.size)

    def call_with_the_others(call: PlannedCall) -> None:
        together.wait()
        answer = session.services.control.invoke(burst.variant)
        if not session.log.is_done(call.call_id):
            _keep(session, call, answer, first=first)

    try:
        sent = [pool.submit(call_with_the_others, call) for call in burst.calls]
        session.services.first_calls.called(burst.variant)
        for one in sent:
            one.result()
    finally:
        together.abort()  # an interruption before all were there would leave the others waiting for ever


def _say_who_cannot_run(session: Session, protocol: str) -> None:
    for variant in session.configuration.variants:
        if session.log.cannot_run("cold", variant):
            detail, calls = session.log.why_it_cannot_run("cold", variant), session.log.recorded(protocol, variant)
            session.stop(Stop("cold", protocol, variant.key, "none", "cannot_run", detail, calls))
