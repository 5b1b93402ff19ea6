"""The three models themselves, each once: exported, deployed, called from cold, warm and under load, and collected."""

import json
import re
import subprocess
import sys

import polars as pl
import pytest

from core.paths import BENCHMARK_TOML, REPOSITORY
from core.run.run_directory import RunDirectory
from lab.images.image_store import DEFAULT_DIRECTORY
from tests.experiments.conftest import Deployed, deploy
from tests.lab_support import running_lab

# An export takes 20 to 30 s a model, where no earlier test and no demo has made it.
pytestmark = pytest.mark.slow
MODELS = ("resnet50", "inceptionv3", "mobilenet")
# Parameters by the models' papers and Keras's documentation, in millions: each image holds the model it is named after.
PARAMETERS_MILLION = {"resnet50": 25.6, "inceptionv3": 23.9, "mobilenet": 4.3}
SHORT = """
[profile.short.matrix]
memory_sizes_mb = [3008]

# A busy machine may take longer over a start than 29 s.
[profile.short.function]
timeout_s = 900

[profile.short.gateway]
integration_timeout_ms = 900_000

[profile.short.experiments.cold]
protocols = ["forced"]
forced_samples = 1

[profile.short.experiments.warm]
environments = 1
warmups = 1
samples = 1
connections = ["kept"]

[profile.short.experiments.load]
warmups = 0
shape = "constant"
end_rps = 2.0
duration_s = 1
"""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """The functions as they are, in a lab that shares the checkout's store: what the demo exported is there."""
    directory = tmp_path_factory.mktemp("real")
    path = directory / "benchmark.toml"
    text = BENCHMARK_TOML.read_text(encoding="utf-8").partition("\n[profile.")[0] + SHORT
    text, count = re.subn(
        r'^directory = "(.*)"', lambda found: f'directory = "{REPOSITORY / found[1]}"', text, flags=re.MULTILINE
    )
    assert count == 1
    path.write_text(text, encoding="utf-8")
    variables = {"BENCHMARK_TOML": str(path), "BENCHMARK_PROFILE": "short", "LAB_IMAGES": str(DEFAULT_DIRECTORY)}
    with running_lab(state=directory / "state", variables=variables) as lab:
        found = Sharing(lab, path, profile="short")
        deploy(found, directory / "cdk.out")
        yield found


class Sharing(Deployed):
    """Builds and runs images in the checkout's own store."""

    def environment(self, **changes):
        return super().environment(LAB_IMAGES=str(DEFAULT_DIRECTORY), BENCHMARK_PROFILE="short", **changes)


def test_each_model_is_measured_from_cold_warm_and_under_load(deployed, tmp_path):
    variants = deployed.configuration.variants
    assert tuple(variant.model for variant in variants) == MODELS
    done = deployed.run("run", "--results", str(tmp_path))
    run = RunDirectory(tmp_path / done.stdout.splitlines()[-1])
    subprocess.run(
        [sys.executable, "analysis/collect.py", "--run", str(run.root), "--strict", "--no-report"],
        cwd=REPOSITORY,
        env=deployed.environment(),
        check=True,
        capture_output=True,
    )
    rows = pl.read_parquet(run.data_directory / "invocations.parquet").filter(pl.col("call_id").is_not_null())
    assert set(rows["outcome"]) == {"ok"}
    assert set(rows["start_evidence"]) == {"call_number"}
    for variant in variants:
        mine = rows.filter(pl.col("variant") == variant.key)
        counted = mine.group_by("experiment", "warmup", "start_type").len().rows()
        assert ("cold", False, "cold", 1) in counted
        assert ("warm", False, "warm", 1) in counted
        assert sum(row[3] for row in counted if row[0] == "load") == 2
        for phase in ("import_ms", "load_ms", "first_inference_ms", "init_ms"):
            assert mine.filter(pl.col("experiment") == "cold")[phase].item() > 0
        for figure in ("duration_ms", "billed_ms", "max_memory_used_mb", "inference_ms", "weights"):
            assert mine[figure].null_count() == 0
    summary = json.loads((run.root / "summary.json").read_text())
    deployed_million = {row["model"]: row["parameters"] / 1e6 for row in summary["table1"]}
    assert deployed_million == pytest.approx(PARAMETERS_MILLION, abs=0.1)


def test_each_model_answers_one_picture_alike_and_names_the_pictures_it_has(deployed):
    def get(path):
        return deployed.lab.get(deployed.configuration, path)

    for variant in deployed.configuration.variants:
        status, first = get(variant.route)
        assert (status, first["model"], len(first["top5"])) == (200, variant.model, 5)
        # A call that comes before the one before has quite ended gets another environment.
        seen, last = {}, first
        while (before := seen.get(last["environment_id"])) is None:
            seen[last["environment_id"]] = last
            status, last = get(f"{variant.route}?image={first['image']}")
            assert (status, last["top5"]) == (200, first["top5"])
        assert (last["cold"], last["call_number"]) == (False, before["call_number"] + 1)
        status, refused = get(f"{variant.route}?image=nothing.jpg")
        assert status == 400
        assert first["image"] in refused["allowed"]
