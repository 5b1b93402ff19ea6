"""docs/how-to/your-own-model.md, walked: its tables, a Keras application and a file, from deployment to the report."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from core.paths import BENCHMARK_TOML, REPOSITORY
from core.run.run_directory import RunDirectory
from lab.images.image_store import DEFAULT_DIRECTORY
from tests.experiments.conftest import Deployed, deploy
from tests.functions.conftest import FUNCTION
from tests.lab_support import running_lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

PAGE = REPOSITORY / "docs" / "how-to" / "your-own-model.md"
CLASSES = ("red", "green", "blue", "grey")
# A network of one's own: the mean of each colour, mixed into four classes; channels first, and it ends in logits.
MAKE_ONNX = """
import sys
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
mix = np.array([[4, -1, -1, 1], [-1, 4, -1, 1], [-1, -1, 4, 1]], np.float32)
graph = helper.make_graph(
    [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "mix"], ["scores"]),
    ],
    "tiny",
    [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
    [numpy_helper.from_array(mix, "mix")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
checker.check_model(model)
save(model, sys.argv[1])
"""
SHORT = """
[profile.short.gateway]
integration_timeout_ms = 120_000

[profile.short.experiments.cold]
protocols = ["forced"]
forced_samples = 1

[profile.short.experiments.warm]
environments = 1
warmups = 1
samples = 2
connections = ["kept"]

[profile.short.experiments.load]
warmups = 0
shape = "constant"
end_rps = 2.0
duration_s = 1
"""


class Sharing(Deployed):
    """Builds and runs images in the checkout's own store."""

    def environment(self, **changes: str) -> dict[str, str]:
        return super().environment(LAB_IMAGES=str(DEFAULT_DIRECTORY), BENCHMARK_PROFILE="short", **changes)


def blocks() -> list[str]:
    """The TOML that the page shows, in order."""
    return re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, build_stage: dict[str, str]) -> Iterator[Deployed]:
    """What a reader has after the page's third step."""
    directory = tmp_path_factory.mktemp("own")
    function = Path(shutil.copytree(FUNCTION, directory / "function", ignore=shutil.ignore_patterns("__pycache__")))
    onnx = function / "models" / "tiny.onnx"
    subprocess.run([sys.executable, "-S", "-c", MAKE_ONNX, str(onnx)], env=build_stage, check=True)
    (function / "models" / "tiny.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    application, file, matrix = blocks()
    chosen = tomllib.loads(matrix)["matrix"]
    # MobileNet and TensorFlow would be built again in this folder, and are what other tests measure.
    models = json.dumps([*(model for model in chosen["models"] if model != "mobilenet"), "tiny"])
    engines = json.dumps([engine for engine in chosen["engines"] if engine != "tensorflow"])
    text = BENCHMARK_TOML.read_text(encoding="utf-8").partition("\n[profile.")[0]
    for key, value in (
        ("directory", json.dumps(str(function))),
        ("models", models),
        ("engines", engines),
        ("memory_sizes_mb", "[3008]"),
    ):
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, key
    path = directory / "benchmark.toml"
    path.write_text(f"{text}\n{application}\n{file}\n{SHORT}", encoding="utf-8")
    variables = {"BENCHMARK_TOML": str(path), "BENCHMARK_PROFILE": "short", "LAB_IMAGES": str(DEFAULT_DIRECTORY)}
    with running_lab(state=directory / "state", variables=variables) as lab:
        found = Sharing(lab, path, profile="short")
        deploy(found, directory / "cdk.out")
        yield found


def test_the_page_leads_from_a_model_to_the_report(walked: Deployed, tmp_path: Path) -> None:
    variants = walked.configuration.variants
    assert {(variant.model, variant.engine) for variant in variants} == {
        ("efficientnetb0", "onnxruntime"),
        ("tiny", "onnxruntime"),
    }
    done = walked.run("run", "--results", str(tmp_path))
    run = RunDirectory(tmp_path / done.stdout.splitlines()[-1])
    subprocess.run(
        [sys.executable, "analysis/collect.py", "--run", str(run.root)],
        cwd=REPOSITORY,
        env=walked.environment(),
        check=True,
        capture_output=True,
    )
    rows = pl.read_parquet(run.data_directory / "invocations.parquet").filter(pl.col("call_id").is_not_null())
    assert set(rows["outcome"]) == {"ok"}
    assert set(rows["variant"]) == {variant.key for variant in variants}
    weights = dict(rows.select("model", "weights").unique().rows())
    assert weights["tiny"] == "own"
    summary = json.loads((run.root / "summary.json").read_text())
    assert {row["model"]: row["top1_accuracy"] for row in summary["table1"]} == {
        model: record.top1_accuracy for model, record in walked.configuration.models.items()
    }
    page = run.report_path.read_text(encoding="utf-8")
    names = {"efficientnetb0 on ONNX Runtime", "tiny on ONNX Runtime"}
    for name in names:
        assert name in page
    drawn = pl.read_csv(run.figures_directory / "inference_time.csv")
    assert set(drawn.filter(pl.col("value").is_not_null())["name"]) == names


def test_a_file_with_labels_answers_by_their_names(walked: Deployed) -> None:
    tiny = next(variant for variant in walked.configuration.variants if variant.model == "tiny")
    function = walked.configuration.names.function(tiny)
    answer = json.loads(walked.lab.client("lambda").invoke(FunctionName=function)["Payload"].read())
    assert {row["label"] for row in answer["top5"]} == set(CLASSES)
    assert sum(row["probability"] for row in answer["top5"]) == pytest.approx(1, abs=1e-4)
