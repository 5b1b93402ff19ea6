"""What the load protocol asks Locust to load."""

from __future__ import annotations

from pathlib import Path

from core.configuration import parse_configuration
from core.paths import BENCHMARK_TOML
from core.run.run_directory import RunDirectory
from experiments.protocols.load import locust_command


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
