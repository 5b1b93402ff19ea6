"""The load experiment, as Locust runs it: `locust -f loadtests/locustfile.py`, with its web page or --headless.

It finds the endpoints of the deployed stacks by itself, loads one variant after another under the shape of
`[experiments.load]`, and records every call below `results/<run>/`. Locust brings the command line, the web page and
the workers; when requests leave is ours to say, for its users send the next request only after the last answer.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

# Locust puts this file's own directory on the path, not the one above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gevent
import gevent.os
import locust.runners
import locust.stats
from locust import LoadTestShape, User, events
from locust.argument_parser import LocustArgumentParser, get_parser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from core.aws.cloud import Cloud, find_deployment
from core.configuration import read_configuration
from core.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, UserError
from core.paths import RESULTS_DIRECTORY
from core.program.processes import ending_with_this_process
from core.run.manifest import new_manifest
from core.run.place import MEASURING, check_same_place
from core.run.run_directory import RunDirectory, create_run, find_run
from loadtests.conductor import Conductor, Target
from loadtests.interruption import interrupt_main_greenlet
from loadtests.page import PAGE_PATH, add_page
from loadtests.performer import Performer
from loadtests.plan import check_replaced_options, make_plan
from loadtests.results import sum_up
from loadtests.summary_text import summary_text

# Locust rounds latencies to two digits to keep its messages small; here its page shows whole milliseconds, as measured.
locust.stats.bucket_response_time = round
# Three seconds of silence are a busy host's: a worker that is taken for lost and is not would leave its share unsent.
locust.runners.HEARTBEAT_LIVENESS = 15
# gevent forgets after a minute how a child ended. Locust asks when it ends itself, and logs errors without a pause.
gevent.os._reap_children.__defaults__ = (math.inf,)  # noqa: SLF001 - no setting of it
logger = logging.getLogger("loadtests")
LOOPBACK: Final = "127.0.0.1"
logging.getLogger("botocore").setLevel(logging.WARNING)


def _wait(_user: User) -> None:
    """Do nothing: a user that sent requests would send them after answers, not at their times."""
    gevent.sleep(3600)


class ScheduledLoad(User):  # type: ignore[misc]  # locust carries no types
    """A place-holder: Locust wants users, one a worker; the requests come from the schedule."""

    tasks: ClassVar = [_wait]


class UntilThePlanIsDone(LoadTestShape):  # type: ignore[misc]  # locust carries no types
    """Keeps Locust going as long as the plan does."""

    def tick(self) -> tuple[int, float] | None:
        """Users and spawn rate, or None at the end."""
        test = LoadTest.current
        if test is None or test.is_over:
            return None
        return test.users, 100.0


def find_target(options: Mapping[str, Any]) -> Target:
    """Read the configuration and find what is deployed. Raises UserError."""
    configuration = read_configuration(profile=options["benchmark_profile"] or None)
    plan = make_plan(configuration, options)
    joined = find_run(options["run"], Path(options["results"])) if options["run"] else None
    cloud = Cloud()
    target = Target(configuration, plan, find_deployment(cloud, configuration), cloud.endpoint_facts())
    target.deployment.check_rate(plan.variants, plan.shape.peak_rps)
    if joined is not None:
        check_same_place(
            joined.read_manifest(),
            target.endpoint,
            names=MEASURING,
            hint="Leave --run away to start a run of its own.",
        )
    return target


class LoadTest:
    """One process of Locust: what it conducts, or performs, or both."""

    current: LoadTest | None = None

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._performer = None if isinstance(environment.runner, MasterRunner) else Performer(environment)
        self.conductor = (
            None if isinstance(environment.runner, WorkerRunner) else Conductor(environment, self._performer)
        )
        self._run: RunDirectory | None = None
        self._users = 1
        self._refused = False

    @property
    def is_over(self) -> bool:
        """The plan is done, or what the page asked for could not start."""
        return self._refused or (self._run is not None and self.conductor is not None and self.conductor.finished)

    @property
    def users(self) -> int:
        """One user a worker; the number stays what it was when the test started."""
        if self._run is None and isinstance(self._environment.runner, MasterRunner):
            self._users = max(1, self._environment.runner.worker_count)
        return self._users

    def start(self) -> None:
        """Conduct the plan; the options are read again, for the web page may have changed them. Raises UserError."""
        if self.conductor is None:
            return
        try:
            # The page has a field for the host, which it keeps here.
            # Locust has filled in the numbers of a shape's users by now; what the user gave was checked at the init.
            filled_in = {"host": self._environment.host, "num_users": None, "spawn_rate": None}
            target = find_target({**vars(self._environment.parsed_options), **filled_in})
            self._run = self._open_run(target)
        except (UserError, OSError) as error:
            if self._environment.web_ui is None:
                raise
            # Whoever typed it into the page is still there to type something else.
            logger.error("%s", error)  # noqa: TRY400 - a message for the user, not a traceback
            self._refused = True
            return
        print(f"run {self._run.run_id}: records in {self._run.client_directory}", file=sys.stderr)
        self.conductor.start(target, self._run)

    def stop(self) -> None:
        """Send nothing more: finished, stopped from the page, or interrupted."""
        if self.conductor is not None and self._run is not None:
            self.conductor.abandon()
            failed, complete = self.conductor.failure is not None, self.conductor.finished
            # Failed calls are results of a load test, not failures of the tool.
            self._environment.process_exit_code = EXIT_ERROR if failed else EXIT_OK if complete else EXIT_INTERRUPTED
        self._refused = False
        if self._performer is not None:
            self._performer.finish()

    def sum_up(self) -> None:
        """Finish the run's files and print the summary, once the workers have brought in their last records."""
        conductor, run = self.conductor, self._run
        if conductor is None or run is None:
            return
        self._run = None
        conductor.close()
        failure = conductor.failure
        self._close_run(run, str(failure) if failure else "" if conductor.finished else "interrupted")
        if not self._environment.parsed_options.no_summary:
            print(summary_text(run.run_id, sum_up(run, conductor.reports)))
        if failure is not None:
            print(f"locust: {failure}", file=sys.stderr)

    def _open_run(self, target: Target) -> RunDirectory:
        options = self._environment.parsed_options
        results = Path(options.results)
        if options.run:
            return find_run(options.run, results)
        run = create_run(results)
        configuration, table = target.configuration, target.plan.table  # with the changes of the command line
        configuration = configuration.model_copy(
            update={"experiments": configuration.experiments.model_copy(update={"load": table})}
        )
        run.write_manifest(new_manifest(run.run_id, configuration, target.endpoint, ["load"]))
        return run

    def _close_run(self, run: RunDirectory, because: str) -> None:
        """Finish the manifest of a run that is ours; a run joined is its owner's to finish."""
        if self._environment.parsed_options.run:
            return
        manifest = run.read_manifest()
        run.write_manifest(manifest.model_copy(update={"finished_at": time.time(), "stopped_because": because}))


def add_options(parser: LocustArgumentParser, **_: Any) -> None:
    """Declare our options; those left empty are as `benchmark.toml` says."""
    parser.add_argument("--run", default="", help="Run to add to (an id, or `latest`); a new one by default")
    parser.add_argument(
        "--results", default=str(RESULTS_DIRECTORY), help="Directory of the runs", include_in_web_ui=False
    )
    parser.add_argument(
        "--benchmark-profile", default="", help="Profile of benchmark.toml; BENCHMARK_PROFILE by default"
    )
    parser.add_argument("--model", default="", help="Models to load, with commas between them; all by default")
    parser.add_argument(
        "--memory-mb", default="", help="Memory sizes to load, with commas between them; all by default"
    )
    parser.add_argument(
        "--variants", default="", help="Keys of variants to load, with commas between them; all by default"
    )
    parser.add_argument("--warmups", default="", help="Labeled calls of each variant before its load")
    parser.add_argument("--shape", default="", help="linear, steps, constant or search")
    parser.add_argument("--start-rps", default="", help="Rate at the start of a linear shape, in requests/s")
    parser.add_argument(
        "--end-rps", default="", help="Rate at the end of a linear shape, of a constant one; limit of a search"
    )
    parser.add_argument("--duration-s", default="", help="Duration of a linear or constant shape, a variant")
    parser.add_argument("--max-in-flight", default="", help="Calls under way at once; arrivals beyond are dropped")
    parser.add_argument("--spacing", default="even", help="even, or poisson for random arrivals of the same rate")
    parser.add_argument(
        "--no-summary",
        action="store_true",
        help="Leave the summary to who collects the records of all workers",
        include_in_web_ui=False,
    )
    # Both listen on every interface by Locust's default.
    parser.set_defaults(web_host=LOOPBACK, master_bind_host=LOOPBACK)
    if not sys.stdout.isatty():
        parser.set_defaults(only_summary=True)


def prepare(environment: Environment, web_ui: Any = None, **_: Any) -> None:
    """Check everything before the first request, and leave with a plain message where something is missing."""
    interrupt_main_greenlet()
    test = LoadTest.current = LoadTest(environment)
    # In the master and in each worker.
    events.test_start.add_listener(lambda **_: _or_exit(test.start))
    events.test_stopping.add_listener(lambda **_: test.stop())
    if web_ui is not None:  # workers have stopped by then, and the process goes on
        events.test_stop.add_listener(lambda **_: test.sum_up())
    # Without the page, workers are told to quit after Locust's last event but this.
    events.quit.add_listener(lambda **_: test.sum_up())
    if test.conductor is None:
        # As given, for Locust makes workers of --processes, too, whose options their master checks.
        given = get_parser().parse_args()
        if given.worker:
            _or_exit(lambda: check_replaced_options(vars(given)))
        return
    _or_exit(lambda: find_target(vars(environment.parsed_options)))
    if web_ui is not None:
        add_page(web_ui, test.conductor)
        logger.info("Offered against sent, second by second: %s below the address that follows", PAGE_PATH)


def _or_exit(action: Callable[[], object]) -> None:
    try:
        action()
    except (UserError, OSError) as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)


# Locust's --processes leaves its workers running for up to a minute where the master exits early or is killed, and a
# worker that goes on sending is load that nobody counts.
os.register_at_fork(after_in_child=ending_with_this_process())
events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(prepare)
