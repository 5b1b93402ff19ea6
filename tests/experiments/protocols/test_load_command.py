"""What the load protocol asks Locust to load, and how often."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from core.configuration import parse_configuration
from core.paths import BENCHMARK_TOML
from core.run.run_directory import RunDirectory
from core.run.stages import INTERRUPTED, append_stage
from experiments.protocols.load import _stages_left, locust_command
from experiments.session import Session
from tests.core.run.test_stages import stage


def test_a_run_of_some_variants_loads_these_alone(tmp_path: Path) -> None:
    """Locust reads benchmark.toml, which has all of them, so the command names those of a narrowed run."""
    configuration = parse_configuration(BENCHMARK_TOML.read_text(encoding="utf-8"))
    some = [variant for variant in configuration.variants if variant.memory_mb == 1769]
    narrow = configuration.model_copy(
        update={"matrix": configuration.matrix.model_copy(update={"memory_sizes_mb": (1769,)})}
    )
    assert narrow.variants == tuple(some)
    command = locust_command(RunDirectory(tmp_path / "run"), some, narrow)
    assert command[command.index("--variants") + 1].split(",") == [variant.key for variant in some]


def test_a_load_that_ended_early_is_not_repeated_and_an_interrupted_one_does_not_count(tmp_path: Path) -> None:
    text = BENCHMARK_TOML.read_text(encoding="utf-8").replace("repeats = 1 ", "repeats = 3 ")
    configuration = parse_configuration(text)
    whole, failed, interrupted, new, *_ = (variant.key for variant in configuration.variants)
    run = RunDirectory(tmp_path)
    for number, (variant, stopped_because) in enumerate(
        [(whole, ""), (failed, "100 calls in a row failed"), (interrupted, ""), (interrupted, INTERRUPTED)]
    ):
        append_stage(run, stage(variant, started_at=float(number), stopped_because=stopped_because))
    session = SimpleNamespace(configuration=configuration, log=SimpleNamespace(run=run))
    left = _stages_left(cast("Session", session))
    assert [left[key] for key in (whole, failed, interrupted, new)] == [2, 0, 2, 3]
