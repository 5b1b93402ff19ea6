"""Client records of answers. No I/O."""

from __future__ import annotations

from typing import Any

from core.run.outcomes import Answer, classify_api_error, classify_invoke
from core.run.records import ClientRecord
from experiments.aws.lambda_control import InvokeAnswer
from experiments.plan import PlannedCall


def invoke_record(
    call: PlannedCall, answer: InvokeAnswer, *, run_id: str, time_scale: float, first: bool
) -> ClientRecord:
    """Record of a direct invoke."""
    if answer.connection_error:
        meaning = Answer("connection", answer.connection_error)
    elif answer.error_code:
        text = f"{answer.error_code}: {answer.payload.decode(errors='replace')}"
        meaning = Answer(classify_api_error(answer.error_code), text)
    else:
        meaning = classify_invoke(answer.payload, answer.function_error)
    return record_of(
        call,
        meaning,
        run_id=run_id,
        time_scale=time_scale,
        first_after_deploy=first,
        intended_at=answer.sent_at,
        sent_at=answer.sent_at,
        answered_at=answer.answered_at,
        client_latency_ms=answer.latency_ms,
        http_status=answer.status,
        request_id=answer.request_id,
    )


def record_of(call: PlannedCall, answer: Answer, **fields: Any) -> ClientRecord:
    """Record of a planned call; `fields` are what the call and its answer do not tell."""
    return ClientRecord(
        call_id=call.call_id,
        experiment=call.experiment,
        protocol=call.protocol,
        trigger=call.trigger,
        variant=call.variant.key,
        model=call.variant.model,
        engine=call.variant.engine,
        architecture=call.variant.architecture,
        memory_mb=call.variant.memory_mb,
        warmup=call.warmup,
        group=call.group,
        connection=call.connection,
        outcome=answer.outcome,
        error=answer.error,
        handler=answer.handler,
        **fields,
    )
