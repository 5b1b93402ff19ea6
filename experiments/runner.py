"""One run from beginning to end: plan, checks, protocols in turn, and the closing report."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from core import strict_json
from core.aws.cloud import Cloud
from core.configuration import Configuration
from core.errors import EXIT_CHECK_FAILED, EXIT_ERROR, EXIT_OK, CloudError, RecordError, UserError
from core.money.price_list import fetch_prices, store_prices
from core.money.prices import ListedPrices, Prices, read_prices
from core.paths import RESULTS_DIRECTORY
from core.program.progress import Progress
from core.run.manifest import new_manifest
from core.run.place import MEASURING, check_same_place
from core.run.records import EndpointFacts, Experiment
from core.run.run_directory import RUN_ID, RunDirectory, find_run, new_run_id
from experiments.aws.lambda_control import NONCE_VARIABLE
from experiments.checks.at_rest import rest_costs
from experiments.checks.findings import has_problem, print_findings
from experiments.checks.preflight import check_everything
from experiments.checks.spend import SpendMeter, estimate, total, usd, whole_plan
from experiments.dry_run import plan_facts, print_plan, print_rest
from experiments.plan import Step, steps
from experiments.protocols.cold_forced import run_bursts, run_forced, run_gateway
from experiments.protocols.cold_scheduled import run_scheduled
from experiments.protocols.load import run_load
from experiments.protocols.warm import run_warm
from experiments.run_log import RunLog
from experiments.services import Services
from experiments.session import Session, SpendLimitError, locked


@dataclass(frozen=True)
class Request:
    """What a command asks for."""

    experiments: tuple[Experiment, ...]
    configuration: Configuration
    results: Path
    run_name: str  # of a run to create or to resume; "" creates one with a new name
    verbose: bool
    as_json: bool = False  # print the plan for a program
    workers: int = 0  # Fargate tasks that send the load; 0 is this machine


def show_plan(request: Request) -> int:
    """Print the plan and judge it by the limit; nothing is called but a lab's status page."""
    cloud = Cloud()
    # Only a lab shortens intervals. AWS need not be asked, so a plan can be seen without credentials.
    time_scale = cloud.endpoint_facts().time_scale if cloud.endpoint_url else 1.0
    planned = steps(request.configuration, request.experiments, time_scale=time_scale, workers=request.workers)
    prices = read_prices(request.configuration.prices)
    if request.as_json:
        print(strict_json.dumps(plan_facts(planned, request.configuration, prices), indent=2))
    else:
        print_plan(planned, request.configuration, prices)
    try:
        _refuse_over_limit(planned, request.configuration, prices)
    except UserError as error:
        print(f"would be refused: {error}", file=sys.stderr)
        return EXIT_ERROR  # as the run itself would leave
    return EXIT_OK


def show_estimate(configuration: Configuration, experiments: Sequence[Experiment], *, as_json: bool) -> int:
    """Print what a deployment costs at rest and what each experiment adds; nothing is called, deployed or not."""
    planned = steps(configuration, experiments)
    prices = read_prices(configuration.prices)
    if as_json:
        at_rest = [asdict(cost) for cost in rest_costs(configuration, planned, prices)]
        facts = {"at_rest": at_rest, **plan_facts(planned, configuration, prices)}
        print(strict_json.dumps(facts, indent=2))
    else:
        print_rest(configuration, planned, prices)
        print_plan(planned, configuration, prices)
    return EXIT_OK


def measure(request: Request) -> int:
    """Measure, and print the run's id as the last line of standard output."""
    configuration, cloud = request.configuration, Cloud()
    findings = check_everything(cloud, configuration, request.experiments, workers=request.workers)
    print_findings(findings, sys.stderr, all_of_them=request.verbose)
    if has_problem(findings):
        print("nothing was measured: a check failed", file=sys.stderr)
        return EXIT_CHECK_FAILED
    endpoint = cloud.endpoint_facts()
    listed = _listed_prices(cloud, endpoint)
    prices = read_prices(configuration.prices, listed=listed)
    planned = steps(configuration, request.experiments, time_scale=endpoint.time_scale, workers=request.workers)
    _refuse_over_limit(planned, configuration, prices)
    run = open_run(request, endpoint, prices)
    if listed is not None:
        store_prices(run, listed)
    with locked(run) as lock, Progress(verbose=request.verbose) as progress:
        session = Session(
            configuration=configuration,
            endpoint=endpoint,
            services=Services.connect(cloud, configuration, endpoint, request.results, workers=request.workers),
            log=RunLog(run),
            lock=lock,
            meter=SpendMeter(configuration, prices),
            progress=progress,
        )
        name = request.experiments[0] if len(request.experiments) == 1 else "run"
        with ending(run, progress, command_to_resume(request, run, name)) as end, contextlib.closing(session.log):
            _run_protocols(session, request.experiments, planned, prices)
    _say_what_came_of_it(run, session)
    print(run.run_id)
    return EXIT_CHECK_FAILED if end.stopped_because else EXIT_OK


def _listed_prices(cloud: Cloud, endpoint: EndpointFacts) -> ListedPrices | None:
    """Return today's prices of the region; None for a lab, or with a message if AWS does not give them."""
    if endpoint.source == "lab":
        return None
    try:
        return fetch_prices(cloud, endpoint.region)
    except CloudError as error:
        table = read_prices()
        print(f"prices: those of {table.region}, {table.as_of}, as the price list failed: {error}", file=sys.stderr)
        return None


@dataclass
class End:
    """How a run ended: "" where it ended as planned."""

    stopped_because: str = "interrupted"


@contextlib.contextmanager
def ending(run: RunDirectory, progress: Progress, go_on_with: str) -> Iterator[End]:
    """Keep in the manifest how the block ended, and name the command that resumes it if it ended early.

    A spend limit that was reached ends the block, and is no error.
    """
    end = End()
    try:
        yield end
        end.stopped_because = ""
    except SpendLimitError as error:
        end.stopped_because = error.message
        progress.say(f"stopped: {error}")
    except UserError as error:
        end.stopped_because = error.message
        raise
    finally:
        run.write_manifest(
            run.read_manifest().model_copy(update={"finished_at": time.time(), "stopped_because": end.stopped_because})
        )
        if end.stopped_because:
            progress.say(f"What was measured is kept. Resume with: {go_on_with}")


def command_to_resume(request: Request, run: RunDirectory, name: str) -> str:
    """Return the command that resumes this run; `name` is the experiment's, or "run" for all of them."""
    results = "" if request.results == RESULTS_DIRECTORY else f" --results {shlex.quote(str(request.results))}"
    on = f" --on fargate --workers {request.workers}" if request.workers else ""
    return f"inference-lab experiments {name} --resume {run.run_id}{results}{on}"


def _refuse_over_limit(planned: Sequence[Step], configuration: Configuration, prices: Prices) -> None:
    whole = whole_plan(planned, configuration, prices)
    limit = configuration.experiments.max_usd
    if whole.expected_usd > limit:
        raise UserError(
            f"the plan is expected to cost {usd(whole.expected_usd)}, and the limit is {usd(limit)}",
            hint="Raise it with --max-usd, or measure less (--models, --memory-mb); --dry-run shows the plan.",
        )


def open_run(request: Request, endpoint: EndpointFacts, prices: Prices) -> RunDirectory:
    """The directory of the run to resume, or of a new one with its manifest."""
    existing = find_existing(request.run_name, request.results)
    if existing is None:
        if request.run_name and not RUN_ID.match(request.run_name):
            raise RecordError(
                f"run {request.run_name!r} does not exist, and a new run needs a name like 20261124T101500Z-3fa9",
                hint="Omit --run to generate a name, or use a run that `ls results/` lists.",
            )
        run = RunDirectory(request.results / (request.run_name or new_run_id()))
        # A kill may have come between the directory and its manifest: then there is a directory to take over.
        run.client_directory.mkdir(parents=True, exist_ok=bool(request.run_name))
        run.write_manifest(
            new_manifest(run.run_id, request.configuration, endpoint, request.experiments, prices_date=prices.as_of)
        )
        return run
    manifest = existing.read_manifest()
    check_same_place(manifest, endpoint, names=MEASURING, hint="Resume it there, or start a new run.")
    experiments = tuple(dict.fromkeys((*manifest.experiments, *request.experiments)))
    with locked(existing):  # another process may be measuring it, and then its manifest is not ours to change
        existing.write_manifest(
            manifest.model_copy(update={"experiments": experiments, "finished_at": None, "stopped_because": ""})
        )
    return existing


def find_existing(name: str, results: Path) -> RunDirectory | None:
    """Return the run of this name, or None if it does not exist yet."""
    if not name:
        return None
    try:
        return find_run(name, results)
    except RecordError:
        if name == "latest":
            raise
        return None


def _run_protocols(
    session: Session, experiments: Sequence[Experiment], planned: Sequence[Step], prices: Prices
) -> None:
    session.check_spend()
    for variant in session.configuration.variants:
        # A forced update that a kill kept from being taken back.
        if session.services.control.remove_nonce(variant):
            session.progress.say(
                f"{variant.display_name}: {NONCE_VARIABLE} was left behind by an interrupted run; removed"
            )
    protocols = protocols_of(session.configuration, experiments)
    seconds = [
        total(
            [
                estimate(step, session.configuration, prices)
                for step in planned
                if step.experiment == experiment and (experiment != "cold" or _is_part_of(step, name))
            ]
        ).duration_s
        for experiment, name, _ in protocols
    ]
    for number, (_, _, run_protocol) in enumerate(protocols):
        session.then_s = sum(seconds[number + 1 :])
        # A forced update that was taken back leaves the deployed version without its environments for a while.
        for variant in session.configuration.variants:
            session.services.control.await_provisioned(variant)
        run_protocol(session)


def _is_part_of(step: Step, protocol: str) -> bool:
    """Whether a step of the cold experiment is made by this protocol: bursts have their size in their name."""
    return step.protocol.startswith(protocol) or (protocol == "forced" and step.protocol == "spillover")


def protocols_of(
    configuration: Configuration, experiments: Sequence[Experiment]
) -> list[tuple[Experiment, str, Callable[[Session], None]]]:
    """The protocols in the order they run: cold before anything that would keep environments warm."""
    cold = configuration.experiments.cold
    chosen: list[tuple[Experiment, str, Callable[[Session], None]]] = []
    if "cold" in experiments:
        # Scheduled first: it alone can meet an image that nobody has called.
        by_name = {"scheduled": run_scheduled, "forced": run_forced, "burst": run_bursts}
        chosen += [("cold", name, protocol) for name, protocol in by_name.items() if name in cold.protocols]
        if cold.gateway_samples:
            chosen.append(("cold", "gateway", run_gateway))
    if "warm" in experiments:
        chosen.append(("warm", "sequential", run_warm))
    if "load" in experiments:
        chosen.append(("load", configuration.experiments.load.shape, run_load))
    return chosen


def _say_what_came_of_it(run: RunDirectory, session: Session) -> None:
    outcomes: dict[str, Counter[str]] = {}
    for record in run.client_records():
        outcomes.setdefault(record.experiment, Counter())[record.outcome] += 1
    for experiment, counted in outcomes.items():
        text = ", ".join(f"{count} {outcome}" for outcome, count in counted.most_common())
        print(f"{experiment}: {counted.total()} calls ({text})", file=sys.stderr)
    print(f"cost by billed time: about {usd(session.meter.spent_usd)} at AWS's prices", file=sys.stderr)
