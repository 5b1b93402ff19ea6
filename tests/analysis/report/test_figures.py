"""The figures: what is drawn, what is said where nothing can be drawn, and that neither is ever a guess."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.estimate.run_summary import make_summary
from analysis.report.figures import build_figures
from analysis.report.figures.drawing import csv_text, svg
from analysis.report.figures.latency import _phases
from analysis.report.figures.marks import (
    LABEL_PX,
    NARROW_PLOT_PX,
    WIDE_PLOT_PX,
    memory_axis,
    memory_axis_values,
    memory_labels,
)
from analysis.report.figures.paper import _load_rates
from analysis.report.theme import DARK, LIGHT, image_styles, paint
from analysis.report.wording import rounded
from analysis.summary import LoadSecond, LoadTotals
from core.money.prices import read_prices
from core.variants import DISPLAY_NAMES, ENGINES, MODELS, Image
from tests.analysis.report.builders import demo_configuration, make_run, summary_of
from tests.analysis.synthetic import frame, make_rows, manifest_of

PAPER_FIGURES = {
    "inceptionv3": ("fig04_warm_inceptionv3", "fig07_cold_inceptionv3", "fig10_load_inceptionv3"),
    "mobilenet": ("fig05_warm_mobilenet", "fig09_cold_mobilenet", "fig12_load_mobilenet"),
    "resnet50": ("fig06_warm_resnet50", "fig08_cold_resnet50", "fig11_load_resnet50"),
}
OVERALL_FIGURES = ("fig01_request_rate", "fig14_api_latency_warm", "fig15_latency_cold", "fig16_inference_time")
ONE_VARIANT = {"models": ["mobilenet"], "memory_sizes_mb": [1024]}
VARIANT = "mobilenet-tensorflow-x86_64-1024"
SMALL = {"models": ["mobilenet"], "memory_sizes_mb": [1024, 3008], "load_s": 5.0, "warm_samples": 12}


def numbers_in(text):
    return [int(digits) for digits in re.findall(r"\d+", text)]


def load_seconds(counts):
    """Seconds of a load in which everything is answered."""
    zero = dict.fromkeys(("dropped", "late", "throttled", "failed", "cold"), 0)
    return [
        LoadSecond(variant=VARIANT, second=second, offered=count, sent=count, answered=count, ok=count, **zero)
        for second, count in enumerate(counts)
    ]


def load_rates(seconds, durations_s):
    """Rates of figure 1, by series and second."""
    total = LoadTotals.model_construct(variant=VARIANT, durations_s=durations_s)
    variants = {variant.key: variant for variant in demo_configuration(**ONE_VARIANT).variants}
    summary = SimpleNamespace(load_seconds=seconds, load_totals=[total], variants=variants)
    return {(row["series"], row["second"]): row["rps"] for row in _load_rates(summary)}


def figures_of(**options):
    _, invocations, summary = make_run(**options)
    return {figure.id: figure for figure in build_figures(summary, invocations)}, summary


@pytest.fixture(scope="module")
def whole():
    return figures_of(memory_sizes_mb=[512, 1769, 3008])


@pytest.fixture(scope="module")
def small():
    _, invocations, summary = make_run(models=["mobilenet", "resnet50"], memory_sizes_mb=[1024], load_s=3.0)
    return invocations, summary


@pytest.mark.slow  # what is no Vega-Lite fails to be drawn in the other tests, too
def test_every_chart_is_valid_vega_lite():
    import altair as alt

    figures, _ = figures_of(**SMALL)
    assert len(figures) > 12
    for figure in figures.values():
        alt.Chart.from_dict({**figure.chart, "datasets": {"rows": figure.rows[:1]}}, validate=True)


@settings(max_examples=4)
@given(
    st.lists(st.sampled_from(MODELS), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([512, 1024, 1769, 3008, 10_240]), min_size=1, max_size=3, unique=True),
)
def test_any_subset_of_models_and_memory_sizes_has_exactly_its_figures(models, sizes):
    figures, _ = figures_of(models=models, memory_sizes_mb=sizes, load_s=3.0, warm_samples=3, cold_samples=2)
    expected = {name for model in models for name in PAPER_FIGURES[model]} | set(OVERALL_FIGURES)
    assert expected == {name for name in figures if name.startswith("fig")}
    for figure in figures.values():
        json.dumps(figure.chart, allow_nan=False)
        assert {row["model"] for row in figure.rows} <= {*models, ""}


@pytest.mark.parametrize("missing", ["cold", "warm", "load"])
def test_a_missing_experiment_leaves_figures_that_say_so_and_draw_nothing(missing):
    figures, summary = figures_of(**SMALL, keep=lambda row: row["experiment"] != missing)
    number = {"cold": "fig09_cold_mobilenet", "warm": "fig05_warm_mobilenet", "load": "fig12_load_mobilenet"}[missing]
    figure = figures[number]
    assert figure.empty
    assert figure.why_empty == f"the {missing} experiment is not part of this run"
    drawn = svg(figure)
    assert figure.why_empty in drawn
    assert summary.origin.badge in drawn


def test_where_every_cold_start_ran_out_of_memory_the_figure_says_how_many():
    figures, _ = figures_of(models=["resnet50"], memory_sizes_mb=[512], load_s=3.0, warm_samples=3)
    figure = figures["fig15_latency_cold"]
    assert figure.empty
    (note,) = figure.notes
    assert numbers_in(note) == [50, 512, 15, 15]
    assert note.partition(", ")[2] in svg(figure)


def test_a_size_that_fails_is_named_and_never_drawn_as_zero(whole):
    figure = whole[0]["fig06_warm_resnet50"]
    assert 512 not in {row["memory_mb"] for row in figure.rows}
    assert all(row["value"] > 0 for row in figure.rows)
    (note,) = figure.notes
    assert numbers_in(note) == [50, 512, 152, 152]


def test_a_single_sample_is_drawn_without_interval_and_says_what_one_needs():
    figures, _ = figures_of(
        models=["mobilenet"],
        memory_sizes_mb=[1024],
        keep=lambda row: row["experiment"] == "cold" and row["protocol"] == "forced",
        forced=1,
        cold_samples=0,
    )
    figure = figures["fig09_cold_mobilenet"]
    [row] = figure.rows
    assert (row["n"], row["low"], row["high"]) == (1, None, None)
    assert "needs n >= 6" in figure.notes[0]
    svg(figure)


def test_what_is_drawn_is_what_the_summary_says(whole):
    figures, summary = whole
    names = {name: model for model, name in DISPLAY_NAMES.items()}
    for file_name, where, metric in (
        ("fig14_api_latency_warm", ("warm", "warm"), "client_latency_ms"),
        ("fig15_latency_cold", ("cold", "cold"), "total_ms"),
        ("fig16_inference_time", ("warm", "warm"), "inference_ms"),
    ):
        rows = figures[file_name].rows
        assert rows
        for row in rows:
            key = f"{names[row['series']]}-tensorflow-x86_64-{row['memory_mb']}"
            estimate = summary.cell(key, *where).metrics[metric].p50
            assert row["value"] == rounded(estimate.value)
            assert (row["low"], row["high"], row["n"]) == (rounded(estimate.low), rounded(estimate.high), estimate.n)


def test_the_offered_and_the_answered_rate_add_up_to_what_was_offered_and_answered(whole):
    figures, summary = whole
    rows = figures["fig01_request_rate"].rows
    ends = {total.variant: total.duration_s for total in summary.load_totals}
    filled = [second for second in summary.load_seconds if second.second + 1 <= ends[second.variant]]
    answered = sum(row["rps"] for row in rows if row["series"] != "Offered")
    assert answered == pytest.approx(sum(second.answered for second in filled), rel=1e-3)
    offered = sum(row["rps"] for row in rows if row["series"] == "Offered")
    assert offered == pytest.approx(sum(second.offered for second in filled) / len(summary.variants), rel=0.05)


@given(st.floats(0.05, 0.95), st.integers(1, 5))
def test_the_rate_of_a_steady_load_does_not_fall_in_its_last_bin(end, repeats):
    """The load ends within a second, and answers come after it: neither is drawn as a rate."""
    steady = 20
    seconds = load_seconds([*([repeats * steady] * 7), round(repeats * steady * end), 3])
    rates = load_rates(seconds, (7 + end,) * repeats)
    assert set(rates.values()) == {steady}
    assert max(second for _, second in rates) == 6


def test_a_repeat_that_ended_early_lowers_no_rate_after_its_end():
    rates = load_rates(load_seconds([*([60] * 4), *([40] * 4)]), (8.0, 8.0, 4.0))
    assert set(rates.values()) == {20}
    assert max(second for _, second in rates) == 7


def test_latency_over_time_counts_from_the_start_of_each_repeat(pair):
    _, invocations, summary = pair
    once = {figure.id: figure for figure in build_figures(summary, invocations)}["load_over_time_mobilenet"].rows
    later_s = 1000.0
    again = invocations.filter(pl.col("experiment") == "load").with_columns(pl.col("intended_at") + later_s)
    totals = [
        total.model_copy(update={"started_at": (*total.started_at, total.started_at[0] + later_s)})
        for total in summary.load_totals
    ]
    repeated = summary.model_copy(update={"load_totals": tuple(totals)})
    figures = {figure.id: figure for figure in build_figures(repeated, pl.concat([invocations, again]))}
    twice = figures["load_over_time_mobilenet"].rows
    assert [(row["second"], row["p50"], row["n"]) for row in twice] == [
        (row["second"], row["p50"], 2 * row["n"]) for row in once
    ]


def test_no_box_is_drawn_of_fewer_samples_than_make_quartiles():
    figures, _ = figures_of(models=["mobilenet"], memory_sizes_mb=[1024], load_s=3.0, warm_samples=0, cold_samples=2)
    figure = figures["spread_cold"]
    assert figure.empty
    assert "is too few for a box" in figure.notes[0]


@pytest.fixture(scope="module")
def pair():
    return make_run(**SMALL)


def test_tail_percentiles_are_drawn_only_where_n_carries_them(pair):
    _, invocations, summary = pair
    figures = {figure.id: figure for figure in build_figures(summary, invocations)}
    rows = figures["load_over_time_mobilenet"].rows
    assert rows
    assert all(row["p95"] is None for row in rows if row["n"] < 72)
    for row in figures["fig12_load_mobilenet"].rows:
        if row["series"].endswith("p95"):
            cell = summary.cell(f"mobilenet-tensorflow-x86_64-{row['memory_mb']}", "load", "any")
            assert cell.metrics["latency_from_intended_ms"].p95.low is not None


def test_memory_sizes_are_not_compared_in_pictures_where_nothing_enforced_them(pair):
    _, invocations, summary = pair
    limits = summary.origin.limits.model_copy(update={"cpu": "none"})
    free = summary.model_copy(update={"origin": summary.origin.model_copy(update={"limits": limits})})
    figures = {figure.id: figure for figure in build_figures(free, invocations)}
    compared = ("fig05_warm_mobilenet", "fig14_api_latency_warm", "cost_against_latency", "spread_warm", "memory_used")
    for name in compared:
        assert figures[name].empty
        assert figures[name].why_empty
    assert figures[compared[0]].why_empty in svg(figures[compared[0]])
    assert not figures["load_over_time_mobilenet"].empty


def test_the_phases_of_a_cold_start_add_up_to_its_mean(whole):
    figures, summary = whole
    rows = figures["cold_phases_mobilenet"].rows
    for memory_mb in (1769, 3008):
        whole_ms = sum(row["value"] for row in rows if row["memory_mb"] == memory_mb)
        assert len([row for row in rows if row["memory_mb"] == memory_mb]) == 5
        cell = summary.cell(f"mobilenet-tensorflow-x86_64-{memory_mb}", "cold", "cold")
        assert whole_ms == pytest.approx(cell.metrics["total_ms"].mean, rel=0.05)


@pytest.mark.parametrize(
    ("inference_ms", "init_ms", "duration_ms"),
    [(20.0, 1000.0, 30.0), (150.0, 900.0, 160.0), (20.0, None, 950.0)],
    ids=["first inference in init", "first inference in the call", "init repeated within the call"],
)
def test_the_first_inference_counts_where_it_was_made(inference_ms, init_ms, duration_ms):
    sample = {"import_ms": 300.0, "load_ms": 400.0, "first_inference_ms": 150.0}
    call = {"inference_ms": inference_ms, "init_ms": init_ms, "restore_ms": None, "duration_ms": duration_ms}
    whole = pl.DataFrame([{**sample, **call}])
    (phases,) = _phases(whole.with_columns(pl.col("init_ms", "restore_ms").cast(pl.Float64))).to_dicts()
    assert sum(phases.values()) == pytest.approx((init_ms or 0.0) + duration_ms)
    assert {name: phases[name] for name in sample} == sample


def test_a_restored_start_is_its_restore_and_the_call_whatever_ran_before_the_snapshot():
    before = {"import_ms": 300.0, "load_ms": 400.0, "first_inference_ms": 150.0}
    call = {"inference_ms": 20.0, "init_ms": None, "restore_ms": 600.0, "duration_ms": 30.0}
    whole = pl.DataFrame([{**before, **call}]).with_columns(pl.col("init_ms").cast(pl.Float64))
    (phases,) = _phases(whole).to_dicts()
    assert {name: ms for name, ms in phases.items() if ms} == {"restore_ms": 600.0, "rest_ms": 30.0}


def test_memory_and_cpu_share_varied_apart_make_a_figure_of_their_own():
    configuration = demo_configuration(models=["mobilenet"], memory_sizes_mb=[1024])
    rows = make_rows(configuration, load_s=2.0, warm_samples=3, cold_samples=1)
    template = next(row for row in rows if row["experiment"] == "warm" and row["start_type"] == "warm")
    grid = [
        template
        | {
            "protocol": "swapping",
            "group": f"memory_mb={memory_mb} vcpu={vcpu}",
            "warmup": False,
            "inference_ms": 10 / vcpu + number / 10,
            "outcome": "out_of_memory" if memory_mb == 256 else "ok",
        }
        for memory_mb in (256, 512, 1024)
        for vcpu in (0.289, 1.0)
        for number in range(8)
    ]
    everything = frame([*rows, *grid])
    summary = make_summary(
        everything, manifest_of(configuration, rows), configuration, read_prices(configuration.prices)
    )
    figure = next(one for one in build_figures(summary, everything) if one.id == "swapping_mobilenet")
    assert figure.section == "claims"
    assert figure.legend == ("0.289 vCPU", "1.00 vCPU")
    assert {(row["memory_mb"], row["series"], row["n"]) for row in figure.rows} == {
        (memory_mb, series, 8) for memory_mb in (512, 1024) for series in figure.legend
    }
    (note,) = figure.notes
    assert numbers_in(note) == [256, 8]
    svg(figure)


def test_every_picture_carries_its_origin_and_no_other(whole):
    _, invocations, on_aws = make_run(**SMALL, source="aws")
    for figure in build_figures(on_aws, invocations):
        subtitle = " ".join(figure.chart["title"]["subtitle"])
        assert "AWS Lambda, eu-central-1" in subtitle
        assert "not a cloud figure" not in subtitle
    for figure in whole[0].values():
        assert "not a cloud figure" in " ".join(figure.chart["title"]["subtitle"])


def test_more_invocations_make_no_larger_figures():
    configuration, invocations, summary = make_run(**SMALL)
    few = build_figures(summary, invocations)
    many = build_figures(summary, pl.concat([invocations] * 20))
    assert [len(figure.rows) for figure in few] == [len(figure.rows) for figure in many]
    assert configuration.matrix.models == ("mobilenet",)


@given(
    st.lists(st.integers(128, 10_240), min_size=1, max_size=20, unique=True),
    st.sampled_from([NARROW_PLOT_PX, WIDE_PLOT_PX]),
)
def test_labels_of_memory_sizes_never_touch_and_always_name_the_ends(sizes, plot_px):
    kept = json.loads(memory_labels(sizes, plot_px).removeprefix("indexof(").split(", datum")[0])
    sizes.sort()
    assert kept[0] == sizes[0]
    assert kept[-1] == sizes[-1]
    assert set(kept) <= set(sizes)
    low, high = memory_axis(sizes)["scale"]["domain"]
    places = [plot_px * (size - low) / (high - low) for size in kept]
    inner = [after - before for before, after in itertools.pairwise(places)]
    assert len(kept) <= 2 or min(inner) >= LABEL_PX - 1e-6


def test_the_sizes_on_an_axis_are_those_of_the_run_even_where_one_failed(whole):
    assert memory_axis_values(whole[0]["fig06_warm_resnet50"].chart) == [512, 1769, 3008]
    assert memory_axis_values(whole[0]["fig01_request_rate"].chart) == []


def test_the_csv_behind_a_figure_holds_its_rows(whole):
    figure = whole[0]["fig14_api_latency_warm"]
    read = list(csv.DictReader(io.StringIO(csv_text(figure))))
    assert [float(row["value"]) for row in read] == [row["value"] for row in figure.rows]
    assert list(read[0]) == list(figure.columns)


def test_a_text_that_a_spreadsheet_would_take_for_a_formula_is_quoted(whole):
    figure = whole[0]["fig14_api_latency_warm"]
    figure = type(figure)(**{**figure.__dict__, "rows": [figure.rows[0] | {"name": "=HYPERLINK(1)"}]})
    assert csv_text(figure).splitlines()[1].startswith("'=HYPERLINK(1),")


def test_the_same_run_gives_the_same_picture(whole):
    figure = whole[0]["fig10_load_inceptionv3"]
    assert svg(figure) == svg(figure)
    assert svg(figure) != svg(figure, DARK)


def test_markup_in_a_name_stays_text_in_the_picture(whole):
    figure = whole[0]["fig14_api_latency_warm"]
    hostile = "<script>alert(1)</script>"
    chart = json.loads(json.dumps(figure.chart).replace("InceptionV3", hostile.replace('"', "")))
    drawn = svg(type(figure)(**{**figure.__dict__, "chart": chart}))
    assert "<script>" not in drawn
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in drawn


# What a run may hold, odd but allowed: no value, one value, zero, equal values, huge ones.
times = st.one_of(st.none(), st.just(0.0), st.floats(min_value=0.001, max_value=1e7))


@settings(max_examples=8)
@given(st.data())
def test_any_small_frame_is_drawn_without_nan_and_without_a_value_made_up(data):
    configuration = demo_configuration(models=["mobilenet"], memory_sizes_mb=[512, 1769])
    _, base, _ = make_run(**TWO_SIZES)
    rows = base.sample(data.draw(st.integers(1, 8)), seed=data.draw(st.integers(0, 99))).to_dicts()
    for row in rows:
        for column in ("client_latency_ms", "latency_from_intended_ms", "inference_ms", "duration_ms", "init_ms"):
            row[column] = data.draw(times)
        row["outcome"] = data.draw(st.sampled_from(["ok", "ok", "throttled", "out_of_memory"]))
    figures = build_figures(summary_of(configuration, rows), frame(rows))
    for figure in figures:
        json.dumps(figure.chart, allow_nan=False)
        assert figure.empty == bool(figure.why_empty)
        for row in figure.rows:
            assert row.get("value", 0.0) is not None


TWO_SIZES = {
    "models": ["mobilenet"],
    "memory_sizes_mb": [512, 1769],
    "load_s": 3.0,
    "warm_samples": 3,
    "cold_samples": 2,
}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_stands_out_from_its_paper_by_three_to_one(theme):
    for token, colour in theme.items():
        if token in {"@paper", "@grid", "@ok", "@axis", "@band"}:
            continue  # ground, grid and what recedes on purpose
        assert contrast(colour, theme["@paper"]) >= 3, token


def test_no_colour_is_left_a_token_and_data_stay_as_they_are():
    painted = paint({"mark": {"color": "@ink"}, "datasets": {"rows": [{"name": "@ink"}]}}, LIGHT)
    assert painted == {"mark": {"color": LIGHT["@ink"]}, "datasets": {"rows": [{"name": "@ink"}]}}
    assert set(LIGHT) == set(DARK)


@pytest.mark.parametrize("engines", [ENGINES[:1], ENGINES[1:2], ENGINES])
def test_models_and_engines_differ_by_colour_and_by_shape_and_dash(engines):
    styles = image_styles([Image(model, engine, "x86_64") for model in (*MODELS, "tiny") for engine in engines])
    assert len({style.color for style in styles.values()}) == len(styles)
    assert len({(style.shape, tuple(style.dash)) for style in styles.values()}) == len(styles)
    assert {style.color for style in styles.values()} <= set(LIGHT)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of the relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_model_has_its_months_not_the_recommended_one_alone(small):
    invocations, summary = small
    figures = {figure.id for figure in build_figures(summary, invocations)}
    models = {image.model for image in summary.images}
    assert {f"monthly_cost_{model}" for model in models} <= figures
