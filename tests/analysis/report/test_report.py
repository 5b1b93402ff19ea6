"""The page: that it says what the summary says, needs nothing from outside, and takes hostile text for text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from pathlib import Path

import polars as pl
import pytest

from analysis.report.figures import build_figures
from analysis.report.page import build_page, write_report
from analysis.report.text import not_measured, summary_markdown
from analysis.summary import ConditionShare, DataWarning, WhatIf
from core.paths import REPOSITORY
from core.run.run_directory import RunDirectory
from core.variants import Variant
from tests.analysis.report.builders import make_run
from tests.analysis.report.pages import parse

PROSE = Path(__file__).with_name("prose.txt")
SMALL = {"models": ["mobilenet", "resnet50"], "memory_sizes_mb": [512, 1769], "load_s": 5.0, "warm_samples": 12}
PARAGRAPHS = {"p", "h1", "h2", "h3", "h4", "li", "caption", "th", "dt", "figcaption", "summary"}
EXTERNAL = re.compile(r"^(?:[a-z][a-z0-9+.-]*:)?//|^https?:|^//", re.IGNORECASE)


def page_of(**options):
    _, invocations, summary = make_run(**(SMALL | options))
    return build_page(summary, build_figures(summary, invocations), {}), summary


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    _, invocations, summary = make_run(**SMALL)
    directory = RunDirectory(tmp_path_factory.mktemp("results") / summary.run_id)
    directory.root.mkdir()
    (directory.root / "summary.json").write_text(summary.model_dump_json())
    (directory.figures_directory).mkdir()
    (directory.figures_directory / "fig99_of_an_earlier_report.svg").write_text("<svg/>")
    write_report(directory, invocations, summary)
    return directory, invocations, summary


@pytest.fixture(scope="module")
def page(run):
    return parse(run[0].report_path.read_text(encoding="utf-8"))


def test_every_figure_is_on_disk_as_svg_png_and_csv_and_older_ones_are_gone(run):
    directory, invocations, summary = run
    names = {figure.id for figure in build_figures(summary, invocations)}
    assert {path.name for path in directory.figures_directory.iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("svg", "png", "csv")
    }
    for name in names:
        assert (directory.figures_directory / f"{name}.svg").read_text().startswith("<svg")
        assert (directory.figures_directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert pl.read_csv(directory.figures_directory / "fig05_warm_mobilenet.csv").height == 4


def test_the_prose_is_that_of_the_snapshot(run, page, request):
    """Numbers are left out: what they are is the business of other tests."""
    paragraphs = [one.text for one in page.one("main").all() if one.tag in PARAGRAPHS and not one.all("p")]
    prose = "\n".join([summary_markdown(run[2]), *dict.fromkeys(filter(None, paragraphs))])
    prose = re.sub(r"(?<![A-Za-z])\d+(?:[,.]\d+)*", "0", prose)
    prose = "\n".join(dict.fromkeys(prose.splitlines())) + "\n"
    if request.config.getoption("--rewrite-prose"):
        PROSE.write_text(prose, encoding="utf-8")
    command = f"python -m pytest {Path(__file__).relative_to(REPOSITORY)} --rewrite-prose"
    assert prose == PROSE.read_text(encoding="utf-8"), f"If people are to read this, write it again: {command}"


def test_a_panel_without_answers_says_why_and_has_no_controls():
    grid = WhatIf(axes={}, answers=(), reason="no variant has both warm calls and cold starts that count")
    page = parse(page_of(change={"what_if": grid})[0])
    section = page.one("section", id="what-if")
    assert grid.reason in section.text
    assert not section.all("input")


def test_the_page_fetches_nothing(run, page):
    assert not {element.tag for element in page.all()} & {"link", "iframe", "object", "embed", "base"}
    names = ("src", "href", "action", "srcset", "poster", "data")
    links = [(one.tag, one.attributes[name]) for one in page.all() for name in names if name in one.attributes]
    assert links
    for tag, target in links:
        assert not EXTERNAL.match(target), target
        assert tag == "a" or target.startswith("data:image/svg+xml;base64,")
    style = page.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    for still in run[0].figures_directory.glob("*.svg"):
        assert not re.search(r'(?:href|src)="(?!#)', still.read_text())


def test_the_page_forbids_itself_to_fetch_and_to_run_scripts_it_does_not_know(page):
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-eval" not in policy
    scripts = [script for script in page.all("script") if "type" not in script.attributes]
    assert len(scripts) == 3
    for script in scripts:
        digest = hashlib.sha256("".join(script.pieces).encode()).digest()
        assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_links_lead_to_what_is_there(run, page):
    identifiers = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(identifiers) == len(set(identifiers))
    for link in page.all("a"):
        target = link.attributes["href"]
        assert target.removeprefix("#") in identifiers if target.startswith("#") else (run[0].root / target).exists()
    labelled = [
        element.attributes["aria-labelledby"] for element in page.all() if "aria-labelledby" in element.attributes
    ]
    assert set(labelled) <= set(identifiers)


def test_the_page_has_one_first_heading_a_title_a_description_and_headings_in_order(run, page):
    summary = run[2]
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("h1").text == summary.title
    assert summary.recommendation.headline in page.one("title").text
    assert summary.origin.badge in page.one("meta", name="description").attributes["content"]
    levels = [int(element.tag[1]) for element in page.all() if re.fullmatch(r"h[1-6]", element.tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    contents = [link.attributes["href"] for link in page.one("nav").all("a")]
    assert contents == [f"#{section.attributes['id']}" for section in page.all("section")][1:]


def test_the_answer_comes_first_with_why_how_sure_and_where(run, page):
    recommendation = run[2].recommendation
    first = page.all("section")[0]
    assert first.attributes["id"] == "answer"
    for text in (
        recommendation.headline,
        *recommendation.why,
        recommendation.how_sure,
        recommendation.measured_where,
        "Limits in force",
        "Time scale 13",
        "does not model",
        "not measured",
    ):
        assert text in first.text


def test_what_was_not_measured_is_an_item_of_its_own_on_the_first_screen(run):
    summary = run[2]
    lines = not_measured(summary)
    assert any(line.startswith("The lab does not model image fetch") for line in lines)
    assert any("Accuracy is quoted" in line for line in lines)
    part = ConditionShare(condition="concurrent", weight=0.2, bad=0, n=0, environments=0, source="not measured")
    answer = summary.recommendation.model_copy(update={"conditions": (part,)})
    changed = summary.model_copy(update={"recommendation": answer, "experiments": ("cold", "warm"), "cells": ()})
    lines = not_measured(changed)
    said = set(lines) - set(not_measured(summary))
    assert any("20%" in line for line in said)
    assert any("load." in line for line in said)
    assert any(line.startswith(f"{len(summary.variants)} of {len(summary.variants)} ") for line in said)
    first = parse(build_page(changed, [], [])).all("section")[0]
    assert all(line in first.text for line in lines)


def test_the_numbers_of_the_page_are_those_of_the_summary(run, page):
    summary = run[2]
    rows = page.one("table", id="overview").one("tbody").all("tr")
    assert len(rows) == len(summary.variants)
    for key, row in zip(summary.variants, rows, strict=True):
        cells = row.all("td")
        found = []
        for where, metric in (
            (("cold", "cold"), "total_ms"),
            (("warm", "warm"), "client_latency_ms"),
            (("load", "any"), "latency_from_intended_ms"),
        ):
            cell = summary.cell(key, *where)
            distribution = cell.metrics.get(metric) if cell else None
            found += (
                [distribution.n, distribution.p50.value, distribution.p95.value] if distribution else [0, None, None]
            )
        found += [cost.usd.value if (cost := summary.cost(key, start)) else None for start in ("cold", "warm")]
        for value, cell in zip(found, cells[1:], strict=True):
            if value is None:
                assert "data-value" not in cell.attributes
            else:
                assert float(cell.attributes["data-value"]) == pytest.approx(value, rel=1e-6)


def test_every_claim_cost_warning_and_method_is_on_the_page(run, page):
    summary = run[2]
    claims = page.all("article", class_="claim")
    assert [claim.one("h3").text.split()[0] for claim in claims] == [claim.id for claim in summary.claims]
    for claim, element in zip(summary.claims, claims, strict=True):
        assert element.one("span", class_="verdict").text == claim.verdict
        assert claim.rule in element.text
        assert claim.why in element.text
    assert len(page.one("table", id="costs").one("tbody").all("tr")) == len(summary.costs)
    assert len(page.one("table", id="monthly").one("tbody").all("tr")) == len(summary.monthly)
    for warning in summary.warnings:
        assert warning.message in page.one("section", id="warnings").text
        assert warning.advice in page.one("section", id="warnings").text
    assert len(page.one("section", id="methods").all("dt")) > 8


def test_the_whole_configuration_is_on_the_page(run, page):
    shown = {row.one("th").text: row.one("td").text for row in page.one("table", id="settings").one("tbody").all("tr")}
    configuration = run[2].configuration
    assert shown["experiments.warm.samples"] == str(configuration["experiments"]["warm"]["samples"])
    assert json.loads(shown["matrix.memory_sizes_mb"]) == list(configuration["matrix"]["memory_sizes_mb"])
    assert shown["function.base_image"] == configuration["function"]["base_image"]


def test_every_figure_carries_the_badge_and_one_box_says_what_the_lab_does_not_model(page):
    figures = page.all("figure")
    assert figures
    for figure in figures:
        assert figure.one("p", class_="badge").text == "Lab"
    assert page.one("main").text.count("Not modeled by the lab: image fetch") == 1


def test_nothing_on_the_page_says_nan_none_or_infinity(page):
    visible = page.one("main").text
    assert not re.search(
        r"\b(nan|none|inf|infinity|null|undefined)\b", visible.replace("Profile none", ""), re.IGNORECASE
    )


def test_a_run_on_aws_speaks_of_no_lab():
    text, summary = page_of(source="aws")
    page = parse(text)
    assert {badge.text for badge in page.all("p", class_="badge")} == {"AWS", summary.origin.badge}
    assert "Not modeled by the lab" not in page.one("main").text
    assert "Host" not in page.one("section", id="answer").text


def test_missing_limits_and_a_contended_host_are_said_on_the_first_screen(run):
    summary = run[2]
    limits = summary.origin.limits.model_copy(update={"cpu": "none"})
    cells = tuple(cell.model_copy(update={"host_contended": 3}) for cell in summary.cells if cell.experiment == "warm")
    text, _ = page_of(
        change={
            "origin": summary.origin.model_copy(update={"limits": limits}),
            "cells": cells,
            "experiments": ("warm",),
        }
    )
    answer = parse(text).one("section", id="answer").text
    assert "No cpu limit was in force" in answer
    assert f"{3 * len(cells)} warm samples" in answer


def test_a_run_without_a_recommendation_still_makes_a_page_that_says_so(run):
    summary = run[2]
    nothing = summary.recommendation.model_copy(
        update={"variant": None, "strategy": None, "monthly_usd": None, "headline": "No variant meets the goal."}
    )
    page = parse(page_of(change={"recommendation": nothing})[0])
    assert page.one("h2", id="answer-title").text == "No variant meets the goal."
    assert not page.all("dl", class_="tiles")
    assert not page.all("tr", class_="recommended")


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}\u2028"


def test_hostile_text_stays_text(run):
    summary = run[2]
    first = next(iter(summary.variants))
    variants = summary.variants | {first: Variant(HOSTILE, "tensorflow", "x86_64", 512)}
    warning = DataWarning(code="x", severity="serious", message=HOSTILE, advice=HOSTILE, variants=(HOSTILE,), count=1)
    change = {
        "variants": variants,
        "title": HOSTILE,
        "commit": HOSTILE,
        "stopped_because": HOSTILE,
        "configuration": {HOSTILE: {HOSTILE: HOSTILE}},
        "versions": {HOSTILE: HOSTILE},
        "warnings": (warning,),
        "origin": summary.origin.model_copy(
            update={"host": HOSTILE, "badge": HOSTILE, "not_modelled": (HOSTILE,), "region": HOSTILE}
        ),
        "recommendation": summary.recommendation.model_copy(
            update={"headline": HOSTILE, "why": (HOSTILE,), "how_sure": HOSTILE, "measured_where": HOSTILE}
        ),
        "claims": tuple(claim.model_copy(update={"statement": HOSTILE, "why": HOSTILE}) for claim in summary.claims),
        "pareto": tuple(point.model_copy(update={"variant": first}) for point in summary.pareto),
    }
    text, _ = page_of(change=change)
    page = parse(text)
    assert len(page.all("script")) == 4
    for element in page.all():
        assert not any(name.startswith("on") for name in element.attributes)
        assert element.tag != "img" or element.attributes["src"].startswith("data:")
    assert page.one("h1").text == " ".join(HOSTILE.split())
    data = next(script for script in page.all("script") if script.attributes.get("type") == "application/json")
    assert HOSTILE in json.dumps(json.loads("".join(data.pieces)), ensure_ascii=False).replace('\\"', '"')


def test_the_same_run_gives_the_same_bytes(run):
    _, invocations, summary = run
    figures = build_figures(summary, invocations)
    assert build_page(summary, figures, {}) == build_page(summary, build_figures(summary, invocations), {})


def test_a_report_that_cannot_be_finished_leaves_the_earlier_one_alone(tmp_path, run):
    _, invocations, summary = run
    directory = RunDirectory(tmp_path / summary.run_id)
    directory.root.mkdir()
    directory.report_path.write_text("the earlier one")
    directory.figures_directory.write_text("a file where a directory belongs")
    with pytest.raises(OSError, match="figures"):
        write_report(directory, invocations, summary)
    assert directory.report_path.read_text() == "the earlier one"
    assert not list(directory.root.glob(".report*"))
