"""What a resumed run takes over from the attempt before it, in the cases that a kill seldom meets."""

from __future__ import annotations

import contextlib
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from core.configuration import read_configuration
from core.errors import UserError
from core.money.prices import read_prices
from core.program.interruption import SIGNALS
from core.run.manifest import new_manifest
from core.run.records import EndpointFacts, LimitsInForce
from core.run.run_directory import RecordWriter, create_run
from core.run.stops import Stop, append_stop, read_stops
from experiments.__main__ import _configuration, build_parser, main, narrowed, plan_differences
from experiments.aws.scheduler import ScheduleState
from experiments.checks.spend import SpendMeter
from experiments.plan import Window, scheduled_call
from experiments.protocols.cold_scheduled import Asked, _look, _settle
from experiments.protocols.load import RecordWatch, run_load
from experiments.protocols.load_on_fargate import MARKER
from experiments.run_log import SENDING_FILE, RunLog
from experiments.runner import Request, command_to_resume, ending
from experiments.session import Session, SpendLimitError
from tests.experiments.checks.test_spend import record

CONFIGURATION = read_configuration(profile="")
VARIANT = CONFIGURATION.variants[0]
START = 1_790_000_000.0


@pytest.fixture
def own_signals():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("enabled", "start_at", "fires"),
    [(True, START, 12), (True, START - 3600, 2), (False, None, 2)],
    ids=["still on", "on for another window", "switched off by a clean-up"],
)
def test_of_a_window_that_is_no_longer_on_the_fires_that_were_written_down_count(enabled, start_at, fires):
    state = ScheduleState("s", enabled, "rate(10 minutes)", start_at, None)
    written = {scheduled_call(VARIANT, number).call_id for number in (0, 1)}
    session = SimpleNamespace(
        services=SimpleNamespace(scheduler=SimpleNamespace(state=lambda _: state)),
        log=SimpleNamespace(is_done=written.__contains__),
    )
    (settled,) = _settle(session, [Asked(Window(VARIANT, START, 600.0, 0, 12), first_after_deploy=False)])
    assert settled.window.count == fires


def test_a_fire_that_nobody_knew_of_is_not_taken_for_a_later_one():
    again = START + 36_000
    reports = [(START + 1, 1.0), (START + 601, 2.0), (START + 1201, 99.0), (again + 1, 3.0)]
    logs = SimpleNamespace(billed_since=lambda _, since: [billed_ms for at, billed_ms in reports if at >= since])
    corrected = []
    session = SimpleNamespace(
        configuration=read_configuration(),
        services=SimpleNamespace(logs=logs),
        meter=SimpleNamespace(correct=lambda _, assumed_ms, billed_ms: corrected.append(billed_ms)),
        check_spend=lambda: None,
    )
    asked = [
        Asked(Window(VARIANT, START, 600.0, 0, 2), first_after_deploy=False, closed=True),
        Asked(Window(VARIANT, again, 600.0, 2, 2), first_after_deploy=False),
    ]
    answered = {VARIANT.key: 0}
    _look(session, asked, answered, again + 700)
    assert (answered, corrected) == ({VARIANT.key: 3}, [1.0, 2.0, 3.0])
    reports.append((again + 602, 4.0))
    _look(session, asked, answered, again + 700)
    assert (answered, corrected) == ({VARIANT.key: 4}, [1.0, 2.0, 3.0, 4.0])


def test_half_a_line_that_a_kill_left_does_not_spoil_what_is_written_after_it(tmp_path):
    run = create_run(tmp_path)
    path = run.client_directory / "load-0.jsonl"
    whole = record(call_id="before").model_dump_json()
    path.write_text(f"{whole}\n{whole[:-20]}")
    watch = RecordWatch(run)
    watch.skip_what_is_there()
    with RecordWriter(path) as writer:
        writer.append(record(call_id="a" * 500))
        assert [found.call_id for found in watch.new_records()] == ["a" * 500]


@pytest.mark.parametrize(
    ("ends_by", "kept", "passes_on"),
    [
        (None, "", None),
        (KeyboardInterrupt(), "interrupted", KeyboardInterrupt),
        (UserError("the lab went away", hint="Start it."), "the lab went away", UserError),
        (SpendLimitError("the limit is reached", hint="Raise it."), "the limit is reached", None),
    ],
)
def test_the_end_of_a_run_is_kept_and_an_early_one_names_the_command_that_goes_on(tmp_path, ends_by, kept, passes_on):
    run = create_run(tmp_path)
    limits = LimitsInForce(driver="process", cpu="none", memory="none", freezer="none")
    here = EndpointFacts(source="lab", endpoint_url="x", account_id="1", region="r", host="h", limits=limits)
    run.write_manifest(new_manifest(run.run_id, CONFIGURATION, here, ["warm"]))
    request = Request(("warm",), CONFIGURATION, tmp_path, run.run_id, verbose=False)
    said = []
    with contextlib.nullcontext() if passes_on is None else pytest.raises(passes_on):  # noqa: SIM117 - one outlives the other
        with ending(run, SimpleNamespace(say=said.append), command_to_resume(request, run, "swapping")):
            if ends_by is not None:
                raise ends_by
    manifest = run.read_manifest()
    assert manifest.stopped_because == kept
    assert manifest.finished_at is not None
    command = f"inference-lab experiments swapping --resume {run.run_id} --results {tmp_path}"
    assert any(line.endswith(command) for line in said) == bool(kept)


@pytest.mark.parametrize("asked", [["--until-ci", "3%"], ["--until-decided"]])
def test_a_run_keeps_how_long_to_sample_when_it_is_resumed(tmp_path, asked):
    """benchmark.toml does not say it, which is no change of the plan."""
    parser, run = build_parser(), create_run(tmp_path)
    began_with = narrowed(CONFIGURATION, parser.parse_args(["warm", *asked]))
    assert began_with != CONFIGURATION
    limits = LimitsInForce(driver="process", cpu="none", memory="none", freezer="none")
    here = EndpointFacts(source="lab", endpoint_url="x", account_id="1", region="r", host="h", limits=limits)
    run.write_manifest(new_manifest(run.run_id, began_with, here, ["warm"]))
    resumed = _configuration(parser.parse_args(["warm", "--results", str(tmp_path), "--resume", run.run_id]))
    assert resumed == began_with


def test_variants_whose_warm_calls_fail_the_goal_are_not_loaded(tmp_path):
    run = create_run(tmp_path)
    for variant in CONFIGURATION.variants:
        append_stop(run, Stop("warm", "sequential", variant.key, "kept", "fails", "9 of 96 calls were bad", 96))
    session = SimpleNamespace(
        services=SimpleNamespace(fargate=None),
        configuration=CONFIGURATION,
        log=SimpleNamespace(run=run, cannot_run=lambda *_: False),
        stop=lambda stop: append_stop(run, stop),
        progress=SimpleNamespace(phase=lambda *_, **__: None, end_phase=lambda: None),
        then_s=0.0,
    )
    run_load(session)
    loads = [stop for stop in read_stops(run) if stop.experiment == "load"]
    assert {stop.variant for stop in loads} == {variant.key for variant in CONFIGURATION.variants}
    assert {stop.reason for stop in loads} == {"fails"}
    assert all(stop.detail.endswith("9 of 96 calls were bad") for stop in loads)


def test_a_load_that_was_left_on_fargate_is_resumed_there_alone(tmp_path):
    run = create_run(tmp_path)
    (run.root / MARKER).touch()
    session = SimpleNamespace(
        services=SimpleNamespace(fargate=None),
        configuration=CONFIGURATION,
        log=SimpleNamespace(run=run),
        run_id=run.run_id,
    )
    with pytest.raises(UserError, match="tasks may still send") as refused:
        run_load(session)
    assert "--on fargate" in refused.value.hint


def test_a_resumed_run_keeps_what_else_its_plan_rests_on():
    """The goal steers a search alone, and the environments kept count where a start mode keeps some."""
    goal = CONFIGURATION.goal.model_copy(update={"limit_ms": 500.0})
    table = CONFIGURATION.provisioned.model_copy(update={"concurrency": 10})
    for changes, needs in (({"goal": goal}, "goal.limit_ms"), ({"provisioned": table}, "provisioned.concurrency")):
        assert plan_differences(CONFIGURATION, CONFIGURATION.model_copy(update=changes)) == []
        load = CONFIGURATION.experiments.load.model_copy(update={"shape": "search"})
        experiments = CONFIGURATION.experiments.model_copy(update={"load": load})
        matrix = CONFIGURATION.matrix.model_copy(update={"starts": ("on_demand", "provisioned")})
        before = CONFIGURATION.model_copy(update={"experiments": experiments, "matrix": matrix})
        assert plan_differences(before, before.model_copy(update=changes)) == [needs]


def test_a_manifest_whose_configuration_is_of_another_version_is_refused_with_what_to_do(tmp_path, own_signals):
    run = create_run(tmp_path)
    limits = LimitsInForce(driver="process", cpu="none", memory="none", freezer="none")
    here = EndpointFacts(source="lab", endpoint_url="x", account_id="1", region="r", host="h", limits=limits)
    run.write_manifest(new_manifest(run.run_id, CONFIGURATION, here, ["warm"]))
    manifest = json.loads(run.manifest_path.read_text())
    manifest["configuration"]["experiments"]["max_usd"] = None
    run.manifest_path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="configuration of another version") as refused:
        main(["warm", "--results", str(tmp_path), "--resume", "latest"])
    assert "new run" in refused.value.hint


def session_of(run, configuration):
    """A session of a run that nothing is called for."""
    services = SimpleNamespace(control=SimpleNamespace(set_nonce=lambda *_: None, remove_nonce=lambda _: None))
    return Session(
        configuration=configuration,
        endpoint=None,
        services=services,
        log=RunLog(run),
        lock=0,
        meter=SpendMeter(configuration, read_prices()),
        progress=None,
    )


def test_a_resumed_run_knows_what_its_snapshots_have_cost(tmp_path):
    snapstart = CONFIGURATION.model_copy(
        update={"matrix": CONFIGURATION.matrix.model_copy(update={"starts": ("snapstart",)})}
    )
    variant = snapstart.variants[0]
    run = create_run(tmp_path)

    first = session_of(run, snapstart)
    with first.nonces() as nonces, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: nonces.force(variant, str(number)), range(40)))
    assert first.meter.spent_usd > 0
    assert session_of(run, snapstart).meter.spent_usd == pytest.approx(first.meter.spent_usd)


def test_a_resumed_run_knows_what_sending_its_load_has_cost(tmp_path):
    run = create_run(tmp_path)
    first = session_of(run, CONFIGURATION)
    for amount_usd in (0.25, 1e-9, 0.5):
        first.add_sending_usd(amount_usd)
    with (run.root / SENDING_FILE).open("a") as file:
        file.write("0.12")  # torn by a kill
    assert session_of(run, CONFIGURATION).meter.spent_usd == pytest.approx(first.meter.spent_usd) == 0.750000001
