"""A run of several engines: each figure, table, claim and choice keeps them apart."""

from __future__ import annotations

import json

import pytest

from analysis.report.figures import build_figures
from analysis.report.page import build_page
from analysis.summary import Summary
from tests.analysis.report.builders import make_run
from tests.analysis.report.pages import parse

pytestmark = pytest.mark.slow  # twelve functions are estimated; test_figures.py has the styles

MODELS = ["mobilenet", "resnet50"]
ENGINES = ["tensorflow", "onnxruntime"]
SIZES = [1024, 1769, 3008]
IMAGES = ["MobileNet", "MobileNet on ONNX Runtime", "ResNet50", "ResNet50 on ONNX Runtime"]
VARIANTS = {f"{model}-{engine}-x86_64-{size}" for model in MODELS for engine in ENGINES for size in SIZES}
SHAPE = {"memory_sizes_mb": SIZES, "load_s": 4.0, "warm_samples": 16, "cold_samples": 8}


def run_of(models, engines):
    _, invocations, summary = make_run(models=models, engines=engines, **SHAPE)
    return {figure.id: figure for figure in build_figures(summary, invocations)}, summary


@pytest.fixture(scope="module")
def several():
    return run_of(MODELS, ENGINES)


def series_of(figure, key="series"):
    return {row[key] for row in figure.rows}


def colours_in(node):
    """The colour tokens of each scale of a chart, by series."""
    if isinstance(node, dict):
        if "domain" in node and str(node.get("range", [""])[0]).startswith("@"):
            yield dict(zip(node["domain"], node["range"], strict=True))
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from colours_in(child)


def test_the_summary_resolves_every_key_and_survives_json(several):
    summary = several[1]
    assert set(summary.variants) == VARIANTS
    assert Summary.model_validate_json(summary.model_dump_json()) == summary
    assert [image.display_name for image in summary.images] == IMAGES
    for part in (summary.cells, summary.costs, summary.monthly, summary.pareto, summary.coverage, summary.load_totals):
        assert {one.variant for one in part} == VARIANTS


def test_one_curve_per_model_and_engine_wherever_all_are_drawn(several):
    figures = several[0]
    for name in ("api_latency_warm", "latency_cold", "inference_time", "memory_used", "cost_per_million_warm"):
        figure = figures[name]
        assert list(figure.legend) == IMAGES
        assert {(row["series"], row["memory_mb"]) for row in figure.rows} == {
            (image, size) for image in IMAGES for size in SIZES
        }
        assert len(figure.rows) == len(VARIANTS), "no two functions share a mark"
    for name in ("spread_warm", "spread_cold", "spread_load", "cost_against_latency"):
        assert sorted(row["name"] for row in figures[name].rows) == sorted(IMAGES * len(SIZES))
    assert series_of(figures["fig01_request_rate"]) == {"Offered", *IMAGES}


def test_no_two_series_look_the_same(several):
    for name in ("api_latency_warm", "spread_warm", "cost_against_latency", "fig01_request_rate"):
        scales = [scale for scale in colours_in(several[0][name].chart) if set(IMAGES) <= set(scale)]
        assert scales, name
        for scale in scales:
            assert len(set(scale.values())) == len(scale), name


def test_the_papers_figures_are_of_its_engine_alone(several):
    figures = several[0]
    assert {name for name in figures if name.startswith("fig")} == {
        "fig01_request_rate",
        *("fig05_warm_mobilenet", "fig09_cold_mobilenet", "fig12_load_mobilenet"),
        *("fig06_warm_resnet50", "fig08_cold_resnet50", "fig11_load_resnet50"),
        *("fig14_api_latency_warm", "fig15_latency_cold", "fig16_inference_time"),
    }
    for name, figure in figures.items():
        if name.startswith("fig") and name != "fig01_request_rate":
            assert series_of(figure, "engine") == {"tensorflow"}, name


def test_each_model_and_engine_has_its_own_figures(several):
    figures = several[0]
    for model in MODELS:
        for stem in ("warm", "cold", "load", "cold_phases", "load_over_time", "monthly_cost"):
            figure = figures[f"{stem}_{model}_onnxruntime"]
            assert figure.rows
            assert series_of(figure, "engine") == {"onnxruntime"}, figure.id
            assert series_of(figure, "model") == {model}


def test_claims_are_about_the_papers_engine(several):
    labels = [number.label for claim in several[1].claims for number in claim.numbers]
    assert labels
    assert not [label for label in labels if "ONNX" in label]


def test_without_the_papers_engine_its_figures_are_left_out_and_its_claims_say_not_measured():
    figures, summary = run_of(["mobilenet"], ["onnxruntime"])
    assert [name for name in figures if name.startswith("fig")] == ["fig01_request_rate"]
    assert len(figures["api_latency_warm"].rows) == len(SIZES)
    for claim in summary.claims:
        assert claim.verdict == "undetermined"
        assert "not measured" in claim.why


def test_curves_and_choices_are_by_model_and_engine(several):
    summary = several[1]
    assert {(knee.model, knee.engine) for knee in summary.knees} == {(m, e) for m in MODELS for e in ENGINES}
    assert {(row.model, row.engine) for row in summary.table1} == {(m, e) for m in MODELS for e in ENGINES}
    assert {constraint.variant for constraint in summary.recommendation.constraints} == VARIANTS
    assert set(summary.recommendation.probability_best) <= VARIANTS


def test_every_row_of_the_page_names_its_engine_and_can_be_filtered_by_it(several):
    figures, summary = several
    page = parse(build_page(summary, list(figures.values()), {}))
    rows = page.one("table", id="overview").one("tbody").all("tr")
    assert [row.attributes["data-engine"] for row in rows] == [v.engine for v in summary.variants.values()]
    assert {row.one("th").text.removesuffix(" recommended") for row in rows} == set(IMAGES)
    for table in ("costs", "choice", "coverage", "load-totals", "outcome-counts"):
        for row in page.one("table", id=table).one("tbody").all("tr"):
            assert ("ONNX Runtime" in row.one("th").text) == (row.attributes["data-engine"] == "onnxruntime"), table
    assert [box.attributes["value"] for box in page.all("input", name="engine")] == ENGINES
    images = {image for figure in page.all("figure") for image in figure.attributes["data-images"].split()}
    assert images == {f"{model}/{engine}" for model in MODELS for engine in ENGINES}
    data = next(script for script in page.all("script") if script.attributes.get("type") == "application/json")
    assert all("engine" in figure["keys"] for figure in json.loads("".join(data.pieces))["figures"])


def test_architectures_are_kept_apart_as_engines_are():
    _, invocations, summary = make_run(
        models=["mobilenet"],
        engines=["tensorflow"],
        architectures=["x86_64", "arm64"],
        memory_sizes_mb=[1024, 1769],
        load_s=2.0,
        warm_samples=8,
        cold_samples=2,
    )
    figures = {figure.id: figure for figure in build_figures(summary, invocations)}
    assert list(figures["api_latency_warm"].legend) == ["MobileNet", "MobileNet arm64"]
    assert series_of(figures["fig14_api_latency_warm"]) == {"MobileNet"}
    assert figures["warm_mobilenet_tensorflow_arm64"].rows
    page = parse(build_page(summary, list(figures.values()), {}))
    assert [box.attributes["value"] for box in page.all("input", name="engine")] == ["tensorflow", "tensorflow-arm64"]
    labels = [number.label for claim in summary.claims for number in claim.numbers]
    assert not [label for label in labels if "arm64" in label]
