"""Keep the answers of the REST endpoint, and wait after a 504: the gateway gave up, but the function keeps running."""

from __future__ import annotations

from typing import Final

from core.run.outcomes import GATEWAY_ID_HEADER, Answer, classify_http
from core.run.records import ClientRecord
from experiments.aws.http_timing import Reply
from experiments.checks.spend import billed_ms_bound, longest_billed_ms
from experiments.plan import PlannedCall
from experiments.protocols.recording import record_of
from experiments.session import Session

LOG_DELAY_S: Final = 30.0  # CloudWatch shows a line some seconds after it was written


def keep_reply(session: Session, call: PlannedCall, reply: Reply, *, first: bool) -> ClientRecord:
    """Keep the record of a GET; after a 504, wait for the function, whose environment the next call would meet."""
    session.services.first_calls.called(call.variant)
    if reply.status is None:
        answer = Answer("connection", reply.connection_error)
    else:
        answer = classify_http(reply.status, reply.body, reply.headers)
    record = record_of(
        call,
        answer,
        run_id=session.run_id,
        time_scale=session.time_scale,
        first_after_deploy=first,
        intended_at=reply.sent_at,
        sent_at=reply.sent_at,
        answered_at=reply.answered_at,
        client_latency_ms=reply.latency_ms,
        connect_ms=reply.connect_ms,
        http_status=reply.status,
        request_id=answer.handler.request_id if answer.handler else None,
        gateway_request_id=reply.headers.get(GATEWAY_ID_HEADER),
    )
    session.add(record)
    if record.outcome == "gateway_timeout":
        let_function_end(session, record)
    return record


def let_function_end(session: Session, record: ClientRecord) -> None:
    """Wait until the log says that a function has ended which the gateway gave up on, and count what it was billed.

    Called again at once, Lambda would start another environment, which would be as late; in a lab the two would share
    the host's CPUs as well. A function that cannot run to its end has reported by its timeout; one that reports
    nothing even then is reported, and the run continues.
    """
    variant = next(one for one in session.configuration.variants if one.key == record.variant)
    timeout_s = session.configuration.function.timeout_s
    began = record.sent_at or record.intended_at
    patience_s = longest_billed_ms(timeout_s) / 1000 + LOG_DELAY_S
    billed_ms = session.services.logs.wait_for_report(variant, began, until=began + patience_s)
    if billed_ms is None:
        session.progress.say(f"{variant.display_name}: no report {patience_s:.0f} s after a call that got a 504")
        return
    assumed_ms = billed_ms_bound(record, configuration=session.configuration, variant=variant)
    session.meter.correct(variant, assumed_ms=assumed_ms, billed_ms=billed_ms)
