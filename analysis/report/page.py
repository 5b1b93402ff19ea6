"""The report of a run: figures as files, and one self-contained HTML page that needs no network.

`write_report` is the only part that writes; `build_page` is a pure function from summary and figures to HTML, so the
same run gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Final

import jinja2
import polars as pl
import vl_convert
from markupsafe import Markup

from analysis.report.figures import build_figures, drawing
from analysis.report.figures.marks import (
    HEIGHT_PX,
    NARROW_PLOT_PX,
    VEGA_LITE_VERSION,
    WIDTH_PX,
    Figure,
    legend_entry_px,
    memory_axis_values,
    memory_labels,
)
from analysis.report.tables import about, choice, measured
from analysis.report.tables.parts import Table, TableCell, estimate_cell, ratio_cell
from analysis.report.text import not_measured
from analysis.report.theme import CONFIG, THEMES
from analysis.report.what_if_panel import controls, panel_data
from analysis.report.wording import (
    TEMPLATES,
    count_text,
    moment_text,
    percent_text,
    usd_text,
)
from analysis.summary import Estimate, Summary
from core import strict_json
from core.models import ENGINE_NAMES
from core.program.progress import duration_text
from core.run.run_directory import (
    MANIFEST_FILE,
    ROWS_FILE,
    SUMMARY_FILE,
    SUMMARY_TEXT_FILE,
    RunDirectory,
    write_atomically,
)
from core.variants import DISPLAY_NAMES, PAPER_ARCHITECTURE, Image

# Chosen so that nothing in a page can call out: no connection, no frame, no script but those whose text is hashed.
SECURITY_POLICY: Final = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'"
)


@dataclass(frozen=True)
class Section:
    """A part of the page with its figures and tables."""

    id: str
    title: str
    lead: str = ""
    figures: tuple[dict[str, Any], ...] = ()
    folded_figures: tuple[dict[str, Any], ...] = ()  # of one model each, where the others compare them
    tables: tuple[Table, ...] = ()


# ---------------------------------------------------------------------------------------------------------------------
# The answer


def _tiles(summary: Summary) -> list[dict[str, str]]:
    key = summary.recommendation.variant
    if key is None:
        return []
    bad = summary.recommendation.bad_share
    tiles = [_tile("Callers without an answer in time", ratio_cell(bad), "")] if bad is not None else []
    for label, where, metric, percentiles in (
        ("Warm, median", ("warm", "warm"), "client_latency_ms", ("p50",)),
        ("Warm, {}", ("warm", "warm"), "client_latency_ms", ("p99", "p95")),
        ("Cold start, median", ("cold", "cold"), "total_ms", ("p50",)),
    ):
        cells = {
            percentile: estimate_cell(_estimate_of(summary, key, where, metric, percentile), reason="not measured")
            for percentile in percentiles
        }
        # The highest percentile that the samples tell; the reason of the first where they tell none.
        shown = next((name for name, cell in cells.items() if cell.value is not None), percentiles[0])
        tiles.append(_tile(label.format(shown), cells[shown], "ms"))
    cost = summary.cost(key, "warm")
    tiles.append(_tile("Per million, warm", estimate_cell(cost.usd if cost else None, money=True), ""))
    if summary.recommendation.monthly_usd is not None:
        requests = summary.recommendation.goal.get("requests_per_month")
        note = f"{requests:,.0f} requests" if requests else ""
        tiles.append(
            {"label": "Per month", "value": usd_text(summary.recommendation.monthly_usd), "unit": "", "note": note}
        )
    best = summary.recommendation.probability_best.get(key)
    if best is not None:
        tiles.append({"label": "Best in resamples", "value": percent_text(best), "unit": "", "note": "of draws"})
    return tiles


def _tile(label: str, cell: TableCell, unit: str) -> dict[str, str]:
    known = cell.value is not None
    return {"label": label, "value": cell.text, "unit": unit if known else "", "note": cell.interval or cell.reason}


def _estimate_of(summary: Summary, key: str, where: tuple[str, str], metric: str, percentile: str) -> Estimate | None:
    cell = summary.cell(key, *where)
    distribution = cell.metrics.get(metric) if cell else None
    return getattr(distribution, percentile) if distribution else None


def _facts(summary: Summary) -> list[str]:
    origin = summary.origin
    facts = []
    if origin.source == "lab":
        cpus = f", {count_text(origin.host_cpus)} CPUs" if origin.host_cpus else ""
        facts.append(f"Host {origin.host or 'unknown'}{cpus}")
        limits = origin.limits
        facts.append(f"Limits in force: CPU {limits.cpu}, memory {limits.memory}, freezer {limits.freezer}")
        if origin.time_scale != 1:
            facts.append(f"Time scale {count_text(origin.time_scale)}: schedules and idle time ran that much faster")
    else:
        facts.append(f"Account {origin.account_id}, {origin.region}")
    return facts


def _alerts(summary: Summary) -> list[dict[str, str]]:
    """Return the notes for the first screen: conditions that distort the figures, then the number of warnings."""
    origin = summary.origin
    alerts: list[dict[str, str]] = []
    if origin.source == "lab" and "none" in {origin.limits.cpu, origin.limits.memory}:
        what = " and ".join(name for name in ("cpu", "memory") if getattr(origin.limits, name) == "none")
        message = f"No {what} limit was in force: memory sizes hardly differ here."
        alerts.append({"severity": "serious", "word": "No limits", "message": message})
    contended = _contended(summary)
    if contended:
        message = f"The host was short of CPU, by its environments together or by other programs, during {contended}."
        alerts.append({"severity": "warning", "word": "Host contended", "message": message})
    if any("random" in cell.weights for cell in summary.cells):
        message = (
            "Measured with random weights. Latency does not depend on them; accuracy is quoted from its source, "
            "not measured."
        )
        alerts.append({"severity": "warning", "word": "Random weights", "message": message})
    serious = sum(warning.severity == "serious" for warning in summary.warnings)
    if summary.warnings:
        count = len(summary.warnings)
        message = f"{count} in this run" + (f", {serious} of them serious." if serious else ".")
        severity = "serious" if serious else "info"
        alerts.append(
            {"severity": severity, "word": "Warnings", "message": message, "href": "#warnings", "link": "Read them."}
        )
    return alerts


def _contended(summary: Summary) -> str:
    """How many samples of which experiment: `20 cold (20 left out) and 1,007 load samples`."""
    parts = []
    for experiment in summary.experiments:
        cells = [cell for cell in summary.cells if cell.experiment == experiment and cell.start_type != "any"]
        kept = sum(cell.host_contended for cell in cells)
        left_out = sum(cell.excluded.get("host_contended", 0) for cell in cells)
        if kept or left_out:
            parts.append(f"{kept + left_out:,} {experiment}" + (f" ({left_out:,} left out)" if left_out else ""))
    return f"{' and '.join(parts)} samples" if parts else ""


def _what_if(summary: Summary) -> dict[str, Any]:
    grid = summary.what_if
    if grid is None or grid.reason:
        return {"reason": grid.reason if grid else "", "controls": ()}
    return {"reason": "", "controls": controls(summary, grid), "points": len(grid.answers)}


# ---------------------------------------------------------------------------------------------------------------------
# Figures in the page


def _is_folded(figure: Figure, summary: Summary) -> bool:
    """Whether a figure shows one of several images alone."""
    return len(figure.images) == 1 < len(summary.images)


def _printed(figures: Sequence[Figure], summary: Summary) -> set[str]:
    """The figures that a print of the page shows next to its answer and table: cost, warm calls and cold starts."""
    drawn = [figure for figure in figures if not figure.empty and not _is_folded(figure, summary)]
    first_of = [next((one.id for one in drawn if one.section == name), "") for name in ("warm", "cold")]
    return {"cost_against_latency", *first_of}


def _figure_view(figure: Figure, still: str | None, *, printed: bool) -> dict[str, Any]:
    size = re.search(r'<svg[^>]* width="(\d+)[^"]*" height="(\d+)', still or "")
    return vars(figure) | {
        "heading": figure.heading,
        "images": [f"{image.model}/{image.group}" for image in figure.images],
        "empty": figure.empty,
        "why_empty": f"No data: {figure.why_empty}.",
        "printed": printed,
        "wide": "second" in figure.columns,  # time runs far
        "still": _data_uri(still) if still else "",
        "width": size[1] if size else WIDTH_PX,
        "height": size[2] if size else HEIGHT_PX,
        "table": about.figure_table(figure),
    }


# What a screen reader or a pointer would use; the still picture has its text next to it.
_SPOKEN: Final = re.compile(r' (?:aria-[a-z]+|role|pointer-events|xmlns:xlink)="[^"]*"')


def _data_uri(document: str) -> str:
    document = _SPOKEN.sub("", document)
    return "data:image/svg+xml;base64," + base64.b64encode(document.encode()).decode()


def _figure_data(figure: Figure) -> dict[str, Any]:
    memory_sizes_mb = memory_axis_values(figure.chart)
    return {
        "id": figure.id,
        "chart": {key: value for key, value in figure.chart.items() if key != "datasets"},
        **_columnar(figure.rows),
        "columns": [{"key": key} for key in figure.columns],
        "legend_columns": max(1, len(figure.legend)),
        "narrow_labels": memory_labels(memory_sizes_mb, NARROW_PLOT_PX) if memory_sizes_mb else "",
        "legend_width": legend_entry_px(figure.legend),
    }


def _columnar(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows without their keys said each time: a third of the bytes."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {"keys": keys, "values": [[row.get(key) for key in keys] for row in rows]}


# ---------------------------------------------------------------------------------------------------------------------
# The page

SECTION_TEXTS: Final[tuple[tuple[str, str, str], ...]] = (
    ("what-if", "At other traffic", "Move a control to see the answer, its cost, and what callers get."),
    ("comparison", "Every function at a glance", ""),
    ("warnings", "Warnings", ""),
    ("warm", "Warm calls", "Latency when an execution environment is already warm."),
    ("cold", "Cold starts", "Latency when Lambda has to start a new execution environment."),
    ("load", "Under load", "Requests arrive at a set rate, whether or not Lambda has answered the earlier ones."),
    ("cost", "Cost", ""),
    ("decision", "The choice", "Which functions meet the goal, and which of those is best."),
    ("claims", "The paper's claims", "Each is tested against this run by a rule that was written beforehand."),
    ("models", "The models", ""),
    ("quality", "Quality of the data", ""),
    ("methods", "Methods", ""),
    ("configuration", "Configuration", "Every setting of this run."),
    ("files", "Data", "The figures above come from these files, next to this page."),
)


# What a reader decides by; the other tables open on request.
OPEN_TABLES: Final = frozenset({"load-totals", "highest-rates", "monthly", "choice", "knees", "table1"})


def _tables(summary: Summary) -> dict[str, list[Table]]:
    return {
        "warm": [measured.cells_table(summary, "warm")],
        "cold": [measured.cold_ratio_table(summary), measured.cells_table(summary, "cold")],
        "load": [
            measured.load_table(summary),
            measured.highest_rates_table(summary),
            measured.cells_table(summary, "load"),
        ],
        "cost": [
            choice.costs_table(summary),
            choice.failed_costs_table(summary),
            choice.monthly_table(summary),
            choice.break_even_table(summary),
        ],
        "decision": [choice.constraints_table(summary), choice.choice_table(summary), choice.knees_table(summary)],
        "models": [about.table1(summary), about.touched_files_table(summary), about.largest_files_table(summary)],
        "quality": [
            about.coverage_table(summary),
            about.outcomes_table(summary),
            measured.breakdown_table(summary),
            measured.differences_table(summary),
            about.checks_table(summary),
            about.stops_table(summary),
        ],
        "configuration": [
            about.pairs_table("run", "The run", about.run_pairs(summary), "Property"),
            about.pairs_table(
                "settings", "benchmark.toml, with its profile applied", about.flat(summary.configuration)
            ),
            about.pairs_table("traffic", "Traffic of the monthly cost", about.flat(summary.traffic)),
            about.pairs_table("prices", "Prices", about.price_pairs(summary)),
        ],
    }


def _sections(summary: Summary, views: Sequence[tuple[Figure, dict[str, Any]]]) -> list[Section]:
    tables = _tables(summary)
    sections = []
    for section_id, title, lead in SECTION_TEXTS:
        here = [(view, _is_folded(figure, summary)) for figure, view in views if figure.section == section_id]
        sections.append(
            Section(
                id=section_id,
                title=title,
                lead=lead,
                figures=tuple(view for view, folded in here if not folded),
                folded_figures=tuple(view for view, folded in here if folded),
                tables=tuple(table for table in tables.get(section_id, []) if table.rows),
            )
        )
    return sections


def _warnings(summary: Summary) -> list[dict[str, Any]]:
    return [
        warning.model_dump() | {"names": [summary.name_of(key) for key in warning.variants]}
        for warning in summary.warnings
    ]


def _engine_name(image: Image) -> str:
    engine = ENGINE_NAMES.get(image.engine, image.engine)
    return engine if image.architecture == PAPER_ARCHITECTURE else f"{engine} {image.architecture}"


def _choices(names: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return a filter's values with their labels, each once, in the order of the matrix."""
    return [{"value": value, "label": label} for value, label in dict(names).items()]


def _meta(summary: Summary) -> list[str]:
    meta = [moment_text(summary.started_at)]
    if summary.finished_at is not None:
        meta.append(f"took {duration_text(summary.finished_at - summary.started_at)}")
    meta += [
        f"{summary.invocations:,} invocations",
        f"{len(summary.variants)} functions",
        ", ".join(summary.experiments),
    ]
    return meta


def _script_json(value: Any) -> Markup:
    """JSON that cannot leave its script element, whatever strings it holds."""
    text = strict_json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - every character that markup could begin with is escaped above


@cache
def _vega_script() -> str:
    """Vega, Vega-Lite and vega-embed in one script, as vl-convert ships them."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE_VERSION)
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _source_hash(script: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() + "'"


EARLY_SCRIPT: Final = 'document.documentElement.className = "js";'


def build_page(
    summary: Summary, figures: Sequence[Figure], stills: dict[str, str], files: Sequence[tuple[str, str]] = ()
) -> str:
    """The page as HTML.

    `stills` holds the SVG of each figure by its id, for print and for readers without scripts; `files` names what is
    next to the page, each with a description.
    """
    page_script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    scripts = [EARLY_SCRIPT, _vega_script(), page_script]
    printed = _printed(figures, summary)
    views = [_figure_view(figure, stills.get(figure.id), printed=figure.id in printed) for figure in figures]
    sections = _sections(summary, list(zip(figures, views, strict=True)))
    absent = {"files"} if not files else set()
    if summary.what_if is None:
        absent.add("what-if")
    sections = [section for section in sections if section.id not in absent]
    origin = summary.origin.model_dump() | {"short_badge": "Lab" if summary.origin.source == "lab" else "AWS"}
    data = {
        "themes": THEMES,
        "config": CONFIG,
        "figures": [_figure_data(figure) for figure in figures if not figure.empty],
        "what_if": panel_data(summary),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    claims = [claim.model_dump() | {"table": about.claim_table(claim)} for claim in summary.claims]
    view = summary.model_dump(include={"run_id", "title", "commit", "schema_version", "methods"})
    return environment.get_template("report.html.j2").render(
        page_title=f"{summary.recommendation.headline} {summary.title}",
        description=f"{summary.recommendation.headline} {summary.origin.badge}. {summary.invocations:,} invocations.",
        security_policy=SECURITY_POLICY.format(scripts=" ".join(_source_hash(script) for script in scripts)),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        early_script=Markup(EARLY_SCRIPT),  # noqa: S704 - our own constant
        vega_script=Markup(_vega_script()),  # noqa: S704 - as shipped, and its hash is in the page's policy
        page_script=Markup(page_script),  # noqa: S704 - our own file
        data_json=_script_json(data),
        summary=view | {"claims": claims, "warnings": _warnings(summary)},
        origin=origin,
        meta=_meta(summary),
        answer=summary.recommendation,
        tiles=_tiles(summary),
        not_measured=not_measured(summary),
        facts=_facts(summary),
        alerts=_alerts(summary),
        contents=[{"id": section.id, "title": section.title} for section in sections],
        filters={
            "models": _choices((image.model, DISPLAY_NAMES.get(image.model, image.model)) for image in summary.images),
            "engines": _choices((image.group, _engine_name(image)) for image in summary.images),
            "memory_sizes_mb": sorted({one.memory_mb for one in summary.variants.values()}),
            "experiments": summary.experiments,
        },
        overview=measured.overview(summary),
        open_tables=OPEN_TABLES,
        what_if=_what_if(summary),
        sections=sections,
        files=files,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Files

CSV_FILE: Final = str(PurePosixPath(ROWS_FILE).with_suffix(".csv"))
FILE_TEXTS: Final[tuple[tuple[str, str], ...]] = (
    (SUMMARY_FILE, "every number of this page, with a schema version"),
    (SUMMARY_TEXT_FILE, "the summary for a pull request or a terminal"),
    (MANIFEST_FILE, "what the run was made with"),
    (ROWS_FILE, "one row for each invocation"),
    (CSV_FILE, "the same as CSV"),
    (f"{CSV_FILE}.gz", "the same as CSV, compressed"),
    ("figures/", "each figure as SVG, PNG and CSV"),
)


def write_report(run: RunDirectory, invocations: pl.DataFrame, summary: Summary) -> Path:
    """Write `figures/` and `report.html` of a run and return the page's path.

    `invocations` has the columns of `core.run.records.INVOCATION_COLUMNS`. Each file is written whole or not at all;
    figures that an earlier report left and this one does not have are removed.
    """
    figures = build_figures(summary, invocations)
    stills: dict[str, str] = {}
    written = set()
    for figure in figures:
        still = drawing.svg(figure)
        stills[figure.id] = still
        for suffix, content in ((".svg", still), (".png", drawing.png(still)), (".csv", drawing.csv_text(figure))):
            path = run.figures_directory / f"{figure.id}{suffix}"
            write_atomically(path, content)
            written.add(path)
    for path in run.figures_directory.glob("*"):
        if path not in written and path.suffix in {".svg", ".png", ".csv"}:
            path.unlink()
    files = [(name, text) for name, text in FILE_TEXTS if (run.root / name).exists()]
    write_atomically(run.report_path, build_page(summary, figures, stills, files))
    return run.report_path
