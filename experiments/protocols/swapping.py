"""Vary CPU share and memory separately, in the lab: does a lack of memory slow a small function?

On AWS more memory always means more CPU, so there the two cannot be told apart. A lab honors the function variable
LAB_VCPU, which AWS would ignore: two CPU shares times four memory sizes, for two models. Calls go one after another to
one function of each model, whose memory size and variables are changed for each cell and put back at the end. Its
number of threads, which follows the memory size otherwise, is the same in every cell. Every cell has its turn in each
of a few rounds of random order, in a new environment each time: neither the host's drift nor the luck of one
environment falls on one cell.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from core.aws.cloud import Cloud
from core.aws.endpoint import VCPU_VARIABLE
from core.configuration import Configuration
from core.errors import EXIT_OK, UserError
from core.models import by_multiply_adds
from core.money.prices import read_prices
from core.program.interruption import undisturbed
from core.program.progress import Progress
from core.run.records import ClientRecord, EndpointFacts
from core.run.run_directory import RecordWriter, RunDirectory
from core.run.swapping import SWAPPING, cell_name
from core.variants import MEMORY_MB_PER_VCPU, Variant
from experiments.aws.lambda_control import LambdaControl
from experiments.plan import UNRECOVERABLE, PlannedCall, shuffled
from experiments.protocols.recording import invoke_record
from experiments.runner import Request, command_to_resume, ending, open_run
from experiments.session import locked

HELD: Final = {"INFERENCE_THREADS": "2"}  # the CPUs that a guest of each of these sizes shows
MEMORY_SIZES_MB: Final = (512, 1024, 1769, 3008)
# The shares that Lambda gives the smallest and the largest of these sizes.
VCPU_SHARES: Final = (round(512 / MEMORY_MB_PER_VCPU, 3), round(3008 / MEMORY_MB_PER_VCPU, 3))
MODELS: Final = 2
ROUNDS: Final = 3
WARMUPS: Final = 2  # of each environment
MOST_SAMPLES: Final = 30
GIVE_UP_AFTER: Final = 3


@dataclass(frozen=True)
class Cell:
    """One point of the grid; `function` names the deployed variant that is changed to it."""

    function: Variant
    memory_mb: int
    vcpu: float

    @property
    def group(self) -> str:
        """How records name the cell; the analysis reads it back."""
        return cell_name(self.memory_mb, self.vcpu)

    def call(self, round_number: int, number: int) -> PlannedCall:
        """One call; numbers below 0 are warm-ups."""
        return PlannedCall(
            f"{SWAPPING}/{self.function.model}/{self.memory_mb}/{self.vcpu}/{round_number}/{number:+04d}",
            "warm",
            SWAPPING,
            "invoke",
            self.function,
            warmup=number < 0,
            group=self.group,
        )


def grid(configuration: Configuration) -> list[Cell]:
    """Every cell: the two models with the fewest multiply-adds, shares, memory sizes."""
    by_model: dict[str, Variant] = {}
    for variant in configuration.variants:
        if variant.alias is None:  # a published version keeps its memory size and variables
            by_model.setdefault(variant.model, variant)
    order = by_multiply_adds({model: configuration.model(model) for model in by_model})[:MODELS]
    return [
        Cell(by_model[model], memory_mb, vcpu)
        for model in order
        for vcpu in VCPU_SHARES
        for memory_mb in MEMORY_SIZES_MB
    ]


def samples_of(configuration: Configuration) -> list[int]:
    """Calls of a cell in each round: together those of the warm experiment, 30 at most."""
    samples = min(MOST_SAMPLES, configuration.experiments.warm.samples)
    rounds = min(ROUNDS, samples)
    return [samples // rounds + (number < samples % rounds) for number in range(rounds)]


def calls_of(cells: Sequence[Cell], samples: Sequence[int]) -> int:
    """Calls of all cells, warm-ups included."""
    return len(cells) * sum(WARMUPS + count for count in samples)


def in_round(cells: Sequence[Cell], seed: int, round_number: int, before: Cell | None) -> list[Cell]:
    """One function's cells in a round's order; `before` is not the first, as it would keep its environment."""
    ordered = shuffled(cells, seed, SWAPPING, round_number)
    if len(ordered) > 1 and ordered[0] == before:
        ordered.append(ordered.pop(0))
    return ordered


@contextmanager
def changing(control: LambdaControl, variant: Variant) -> Iterator[Callable[[int, float | None], None]]:
    """Yield what changes a function's memory size and share; both are put back when the block ends."""

    def change(memory_mb: int, vcpu: float | None) -> None:
        """Change both and wait until they hold; no share means all that belongs to the memory size."""
        found = control.deployed_configuration(variant)
        variables: dict[str, str] = dict(found.get("Environment", {}).get("Variables", {}))
        wanted = {name: value for name, value in variables.items() if name not in {VCPU_VARIABLE, *HELD}}
        if vcpu is not None:
            wanted |= {VCPU_VARIABLE: str(vcpu), **HELD}
        if (found["MemorySize"], variables) != (memory_mb, wanted):
            control.update(variant, MemorySize=memory_mb, Environment={"Variables": wanted})

    change(variant.memory_mb, None)  # what a kill may have left changed
    try:
        yield change
    finally:
        with undisturbed():
            change(variant.memory_mb, None)


def run_swapping(
    run: RunDirectory,
    cloud: Cloud,
    configuration: Configuration,
    endpoint: EndpointFacts,
    progress: Progress,
) -> None:
    """Measure the grid; a resumed run leaves out the calls it has. Raises UserError."""
    if endpoint.source != "lab":
        raise UserError(
            "the swapping experiment needs the lab: on AWS, memory and CPU share cannot be varied independently",
            hint='Start one with `inference-lab lab serve`, and point here with eval "$(inference-lab lab env)".',
        )
    if not endpoint.limits.memory_sizes_are_comparable:
        raise UserError(
            "this lab cannot limit CPU and memory, which is what the experiment varies",
            hint="`inference-lab lab doctor` shows how to enable limits.",
        )
    cells, samples = grid(configuration), samples_of(configuration)
    if not cells:
        raise UserError(
            "the swapping experiment changes functions that start on demand, and matrix.starts has none",
            hint='Add "on_demand" to matrix.starts of benchmark.toml, and deploy again.',
        )
    control = LambdaControl(cloud, configuration)
    done = {record.call_id: record for record in run.client_records()}
    progress.phase("CPU share and memory apart", calls_of(cells, samples))
    with RecordWriter(run.client_directory / f"{SWAPPING}.jsonl") as writer:
        for function in dict.fromkeys(cell.function for cell in cells):
            mine = [cell for cell in cells if cell.function == function]
            before: Cell | None = None
            failures: Counter[str] = Counter()  # one after another, by cell
            with changing(control, function) as change:
                for round_number, count in enumerate(samples):
                    for cell in in_round(mine, configuration.experiments.seed, round_number, before):
                        before = cell
                        todo = [cell.call(round_number, number) for number in range(-WARMUPS, count)]
                        if all(call.call_id in done for call in todo):
                            progress.advance(len(todo), cell.group)
                            continue
                        change(cell.memory_mb, cell.vcpu)
                        for record in _call(control, run, todo, done, endpoint, failures):
                            writer.append(record)
                            progress.advance(1, f"{cell.function.model} {cell.group}")
    progress.end_phase()


def _call(
    control: LambdaControl,
    run: RunDirectory,
    todo: Sequence[PlannedCall],
    done: dict[str, ClientRecord],
    endpoint: EndpointFacts,
    failures: Counter[str],
) -> Iterator[ClientRecord]:
    """One call after another; a cell that cannot run is a result and is not hammered, in later rounds either."""
    for call in todo:
        if call.call_id in done:
            continue
        if failures[call.group] >= GIVE_UP_AFTER:
            return
        record = invoke_record(
            call,
            control.invoke(call.variant),
            run_id=run.run_id,
            time_scale=endpoint.time_scale,
            first=False,
        )
        failures[call.group] = failures[call.group] + 1 if record.outcome in UNRECOVERABLE else 0
        if record.outcome == "throttled":
            time.sleep(1.0)
        yield record


def measure_swapping(request: Request, *, dry_run: bool = False) -> int:
    """The command: make or resume a run, measure the grid, print the run's id."""
    if dry_run:
        cells, samples = grid(request.configuration), samples_of(request.configuration)
        calls = calls_of(cells, samples)
        print(f"{len(cells)} cells, {calls} calls in {len(samples)} rounds; in the lab they cost nothing")
        for cell in cells:
            print(f"  {cell.function.model}: {cell.memory_mb} MB, {cell.vcpu} vCPU")
        return EXIT_OK
    cloud = Cloud()
    endpoint = cloud.endpoint_facts()
    run = open_run(request, endpoint, read_prices(request.configuration.prices))
    go_on_with = command_to_resume(request, run, SWAPPING)
    with locked(run), Progress(verbose=request.verbose) as progress, ending(run, progress, go_on_with):
        run_swapping(run, cloud, request.configuration, endpoint, progress)
    print(run.run_id)
    return EXIT_OK
