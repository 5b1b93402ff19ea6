"""Threads within an operation: two against one, per engine and CPU share, in a lab that enforces the share."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.bench_engines import FUNCTION, PLATFORM
from bench.bench_lab import Lab, create_function, running_lab_process
from bench.measurement import Comparison, hand_over, progress
from core import strict_json
from core.aws.endpoint import VCPU_VARIABLE
from core.models import ENGINE_NAMES, PAPER_MODELS
from core.variants import ENGINES

MODEL: Final = "mobilenet"
SHARES_VCPU: Final = (0.29, 0.58, 1.0, 1.7)
THREADS: Final = (1, 2)
ROUNDS: Final = 2
CALLS: Final = 12


def measure(quick: bool) -> Iterator[Comparison]:
    """One function per engine; its share and threads are changed for each point, round by round."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name, running_lab_process(Path(name) / "state") as lab:
        for engine in ENGINES[:1] if quick else ENGINES:
            deploy_model(lab, MODEL, engine, name=engine)
            found: dict[tuple[float, int], list[float]] = {}
            for _ in range(1 if quick else ROUNDS):
                for vcpu in SHARES_VCPU:
                    for threads in THREADS:
                        found.setdefault((vcpu, threads), []).append(_median_ms(lab, engine, vcpu, threads))
            for vcpu in SHARES_VCPU:
                one, two = (tuple(found[vcpu, threads]) for threads in THREADS)
                yield Comparison(
                    f"MobileNet on {ENGINE_NAMES[engine]}, forward pass at {vcpu:g} vCPU with 2 threads",
                    "ms",
                    two,
                    one,
                    "1 thread",
                    note=f"median of {CALLS} warm calls a run",
                )


def deploy_model(lab: Lab, model: str, engine: str, *, name: str) -> None:
    """Build a model's image, or find it in this checkout's store, and create a function of this name."""
    progress(f"image of {model} on {engine}")
    record = PAPER_MODELS[model].build_record(model)
    given = (f"RECORD={record}", f"ENGINE={engine}", "WEIGHTS=random")
    arguments = [f"--build-arg={argument}" for argument in given]
    create_function(lab, name, FUNCTION, *arguments, "--platform", PLATFORM)


def _median_ms(lab: Lab, engine: str, vcpu: float, threads: int) -> float:
    progress(f"{engine} at {vcpu:g} vCPU with {threads}")
    client: Any = lab.client("lambda")
    variables = {VCPU_VARIABLE: str(vcpu), "INFERENCE_THREADS": str(threads)}
    client.update_function_configuration(FunctionName=engine, Environment={"Variables": variables})
    client.get_waiter("function_updated_v2").wait(FunctionName=engine)
    answers = [
        strict_json.loads(client.invoke(FunctionName=engine, Payload=b'{"image": "generated-0.jpg"}')["Payload"].read())
        for _ in range(CALLS + 2)
    ]
    return float(statistics.median(answer["inference_ms"] for answer in answers[2:]))


if __name__ == "__main__":
    hand_over("threads", "Two threads within an operation against one, at the CPU share of four memory sizes.", measure)
