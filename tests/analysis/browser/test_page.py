"""The report as a reader meets it: in Chromium, from a file, by pointer, keyboard and phone."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from analysis.report.wording import percent_text
from tests.analysis.browser.conftest import wait_until_drawn, wait_until_settled

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DRAWN = """[...document.querySelectorAll('.figure:not(.empty)')].map((figure) => {
    const box = figure.querySelector('.chart svg')?.getBoundingClientRect();
    const marks = [...figure.querySelectorAll('svg .role-mark path, svg .role-mark line')].filter((mark) => {
        const size = mark.getBoundingClientRect();
        return size.width + size.height > 0;
    });
    return {id: figure.id, width: box?.width ?? 0, height: box?.height ?? 0, marks: marks.length};
})"""
FIGURES = "[...document.querySelectorAll('.figure:not([hidden])')].map((figure) => figure.id)"
OVERVIEW_COLUMN = (
    "(column) => [...document.querySelectorAll('#overview tbody tr')].map((row) => row.cells[column].dataset.value)"
)
PAPER = "getComputedStyle(document.querySelector('#fig14_api_latency_warm .chart svg')).backgroundColor"


def test_every_figure_is_drawn_with_marks_and_a_size(desktop):
    drawn = desktop.evaluate(DRAWN)
    assert len(drawn) >= 18
    for figure in drawn:
        assert figure["width"] > 200, figure
        assert figure["height"] > 60, figure
        assert figure["marks"] > 0, figure


def test_the_answer_is_on_the_first_screen(desktop, report):
    assert desktop.locator("#answer-title").inner_text() == report[1].recommendation.headline
    for text in ("Why", "How sure", "Not measured", "Measured where"):
        box = desktop.locator("#answer h3", has_text=text).bounding_box()
        assert box["y"] + box["height"] < 800


def test_the_filter_takes_rows_figures_and_marks_away_and_brings_them_back(desktop):
    everything = desktop.evaluate(FIGURES)
    desktop.locator("#filters input[value=resnet50]").uncheck()
    wait_until_settled(desktop)
    assert not [name for name in desktop.evaluate(FIGURES) if name.endswith("resnet50")]
    assert desktop.locator("#overview tbody tr[data-model=resnet50]:visible").count() == 0
    assert desktop.locator("#overview tbody tr:visible").count() == 3
    assert desktop.locator("#fig14_api_latency_warm .chart .mark-line.role-mark path").count() == 1
    assert "3 of 6 functions" in desktop.locator("#filter-status").inner_text()

    desktop.locator("#filters input[value='1769']").uncheck()
    wait_until_settled(desktop)
    assert desktop.locator("#overview tbody tr:visible").count() == 2

    desktop.locator("#filters input[value=load]").uncheck()
    wait_until_settled(desktop)
    assert "fig01_request_rate" not in desktop.evaluate(FIGURES)
    assert desktop.locator("#overview [data-experiment=load]:visible").count() == 0

    desktop.get_by_role("button", name="Show all").click()
    wait_until_settled(desktop)
    assert desktop.evaluate(FIGURES) == everything
    assert desktop.locator("#overview tbody tr:visible").count() == 6


def test_a_filter_that_leaves_nothing_says_so(desktop):
    for size in ("512", "1769", "3008"):
        desktop.locator(f"#filters input[value='{size}']").uncheck()
    wait_until_settled(desktop)
    assert desktop.locator("#fig14_api_latency_warm .filtered-out").is_visible()
    assert not desktop.locator("#fig14_api_latency_warm .chart").is_visible()


def test_a_table_sorts_both_ways_by_keyboard_and_says_so(desktop):
    header = desktop.locator("#overview thead tr").nth(1).locator("th[data-experiment=warm]").nth(1)
    column = 2 + 3 + 1  # model, memory, three of cold, n
    header.locator("button.sort").focus()
    desktop.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    *ascending, last = desktop.evaluate(OVERVIEW_COLUMN, column)
    assert last is None  # what ran out of memory comes last
    assert [float(value) for value in ascending] == sorted(float(value) for value in ascending)
    desktop.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    *descending, last = desktop.evaluate(OVERVIEW_COLUMN, column)
    assert last is None
    assert descending == ascending[::-1]
    desktop.locator("#overview thead th").first.locator("button").click()
    assert desktop.locator("#overview th[aria-sort]").count() == 1


def test_pictures_and_data_can_be_downloaded_with_title_and_badge(desktop, report):
    def download(kind):
        with desktop.expect_download() as waiting:
            desktop.locator("#fig05_warm_mobilenet").get_by_role("button", name=kind).click()
        assert waiting.value.suggested_filename == f"fig05_warm_mobilenet.{kind.lower()}"
        return Path(waiting.value.path()).read_bytes()

    svg = download("SVG").decode()
    assert svg.startswith("<svg")
    assert "Figure 5. MobileNet, warm: time against memory" in svg
    assert report[1].origin.badge in svg
    png = download("PNG")
    assert png.startswith(b"\x89PNG")
    assert len(png) > 10_000
    on_disk = (report[0].parent / "figures" / "fig05_warm_mobilenet.csv").read_text()
    assert download("CSV").decode() == on_disk
    assert len(list(csv.DictReader(io.StringIO(on_disk)))) == 6


def test_a_point_tells_its_numbers_under_the_pointer(desktop):
    point = desktop.locator("#fig14_api_latency_warm .chart .mark-symbol.role-mark path").first
    point.scroll_into_view_if_needed()
    point.hover()
    desktop.wait_for_selector("#vg-tooltip-element.visible")
    shown = desktop.locator("#vg-tooltip-element").inner_text()
    for text in ("Model", "Memory, MB", "95% interval", "n"):
        assert text in shown
    desktop.mouse.move(0, 0)


def test_figures_follow_the_colour_scheme(desktop):
    assert desktop.evaluate(PAPER) == "rgb(255, 255, 255)"
    desktop.emulate_media(color_scheme="dark")
    desktop.wait_for_selector("html[data-scheme=dark][data-figures=drawn]")
    assert desktop.evaluate(PAPER) == "rgb(20, 24, 29)"


def test_print_takes_the_still_pictures_on_white_paper(desktop, tmp_path):
    desktop.emulate_media(media="print", color_scheme="dark")
    assert desktop.locator("#fig14_api_latency_warm .still").is_visible()
    assert not desktop.locator("#fig14_api_latency_warm .chart").is_visible()
    assert not desktop.locator("#filters").is_visible()
    assert desktop.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert desktop.evaluate("[...document.querySelectorAll('.still')].every((still) => still.naturalWidth > 0)")


def test_print_is_two_pages_with_the_answer_the_table_and_three_figures(desktop):
    desktop.emulate_media(media="print")
    assert desktop.locator("#answer").is_visible()
    assert desktop.locator("#overview").is_visible()
    assert desktop.locator(".figure:visible").count() == 3
    assert len(re.findall(rb"/Type /Page\b", desktop.pdf(format="A4"))) == 2


def test_a_keyboard_reaches_the_answer_the_filter_and_the_tables(desktop):
    desktop.evaluate("document.activeElement.blur(); getSelection().removeAllRanges()")
    desktop.evaluate("document.body.tabIndex = -1; document.body.focus()")
    desktop.keyboard.press("Tab")
    skip = desktop.locator(".skip")
    assert skip.evaluate("(link) => link === document.activeElement")
    assert skip.bounding_box()["y"] >= 0  # seen while it has the focus
    desktop.keyboard.press("Enter")
    assert desktop.evaluate("location.hash") == "#answer"
    wanted = {"toc", "filters js-only", "table-box"}
    reached = set()
    for _ in range(60):
        desktop.keyboard.press("Tab")
        reached.add(desktop.evaluate("document.activeElement.closest('.toc, .filters, .table-box')?.className"))
        if wanted <= reached:
            break
    assert wanted <= reached
    assert desktop.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


PANEL = {
    "answer": "#what-if-result h3",
    "state": "#what-if-result .kicker",
    "usd": "[data-tile=usd]",
    "p99": "[data-tile=p99]",
    "missed": "[data-tile=missed]",
}


def panel_of(page):
    return {name: page.locator(selector).inner_text() for name, selector in PANEL.items()}


def test_the_panel_begins_with_the_reports_answer(desktop, report):
    shown, best = panel_of(desktop), report[1].recommendation
    assert shown["answer"].split(" (")[0].replace(",", "") in best.headline.replace(",", "").replace("with ", "")
    assert f"{shown['usd']} per month" in best.headline
    assert shown["missed"] == percent_text(best.bad_share.value)
    assert "This run's own traffic" in shown["state"]
    assert ("Provisional" in shown["state"]) == bool(best.provisional)


def test_the_panel_follows_the_keyboard_and_says_what_each_step_is(desktop):
    before = panel_of(desktop)
    requests = desktop.locator("#what-if-requests_per_day")
    requests.focus()
    desktop.keyboard.press("Home")
    assert requests.get_attribute("aria-valuetext") == "100"
    few = panel_of(desktop)
    assert few["usd"] != before["usd"]
    assert "This run's own traffic" not in few["state"]
    desktop.keyboard.press("End")
    many = panel_of(desktop)
    assert float(many["usd"].strip("$").replace(",", "")) > float(few["usd"].strip("$").replace(",", ""))
    desktop.locator("#what-if-limit_ms").focus()
    desktop.keyboard.press("Home")
    assert desktop.locator("#what-if-limit_ms + output").inner_text() == "200 ms"
    assert panel_of(desktop) != before
    desktop.get_by_role("button", name="Back to this run's traffic").press("Enter")
    desktop.evaluate("new Promise((resolve) => setTimeout(resolve, 20))")
    assert panel_of(desktop) == before


def test_every_step_of_the_panel_has_an_answer_or_says_that_there_is_none(desktop):
    shown = desktop.evaluate("""() => {
        const sliders = [...document.querySelectorAll('#what-if-form input')];
        const seen = [];
        const walk = (axis) => {
            if (axis === sliders.length) {
                sliders[0].dispatchEvent(new Event('input', {bubbles: true}));
                seen.push(document.querySelector('#what-if-result').innerText);
                return;
            }
            for (let step = 0; step <= Number(sliders[axis].max); step++) {
                sliders[axis].value = step;
                walk(axis + 1);
            }
        };
        walk(0);
        return seen;
    }""")
    assert len(shown) == 486
    assert not [text for text in shown if "NaN" in text or "undefined" in text or "null" in text]
    assert all("$" in text or "No measured function" in text for text in shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(desktop, scheme, tmp_path):
    desktop.emulate_media(color_scheme=scheme)
    desktop.wait_for_selector(f"html[data-scheme={scheme}][data-figures=drawn]")
    desktop.evaluate("document.querySelectorAll('section details').forEach((details, i) => { details.open = i < 6; })")
    desktop.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    assert serious_findings(desktop) == []


def test_a_phone_scrolls_only_downwards(phone_page, tmp_path):
    for width in (390, 320):
        if phone_page.viewport_size["width"] != width:
            phone_page.evaluate("delete document.documentElement.dataset.figures")  # until it has drawn them anew
            phone_page.set_viewport_size({"width": width, "height": 844})
        wait_until_drawn(phone_page)
        assert phone_page.evaluate("document.documentElement.scrollWidth") == width
        edges = phone_page.evaluate(
            "[...document.querySelectorAll('.figure .chart svg')].map((svg) => svg.getBoundingClientRect().right)"
        )
        assert max(edges) <= width
        written = (
            "[...document.querySelectorAll('#fig05_warm_mobilenet .role-axis-label text')].map((t) => t.textContent)"
        )
        assert {"512", "1769", "3008"} <= set(phone_page.evaluate(written))
    # Tables are wider than a phone, and scroll inside their own box, with the row's name in sight.
    box = phone_page.locator(".table-box:has(#overview)")
    assert box.evaluate("(box) => box.scrollWidth > box.clientWidth")
    box.evaluate("(box) => { box.scrollLeft = 300; }")
    assert phone_page.locator("#overview tbody th").first.bounding_box()["x"] >= 0
    phone_page.screenshot(path=tmp_path / "phone.png", full_page=True)


def test_axe_finds_nothing_serious_on_a_phone(phone_page):
    assert serious_findings(phone_page) == []


def test_a_layer_without_marks_never_keeps_the_role_of_an_image(desktop):
    found = desktop.evaluate("""(async () => {
        const layer = document.createElementNS('http://www.w3.org/2000/svg', 'g');
        layer.setAttribute('role', 'graphics-symbol');
        document.querySelector('.chart svg').append(layer);
        await null;
        layer.remove();
        return layer.hasAttribute('role');
    })()""")
    assert found is False


def test_nothing_moves_for_a_reader_who_asks_for_stillness(phone_page):
    assert phone_page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    moving = phone_page.evaluate(
        "[...document.querySelectorAll('main *')].filter((e) => parseFloat(getComputedStyle(e).animationDuration) > 0"
        " || parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    )
    assert moving == 0


def test_without_scripts_the_figures_are_there_as_pictures(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("#fig14_api_latency_warm .still").is_visible()
    assert not page.locator("#filters").is_visible()
    assert page.locator("#overview tbody tr").count() == 6
    assert not page.locator("#what-if-form").is_visible()
    assert page.locator("#what-if .no-js-only").is_visible()


def serious_findings(page):
    return [
        (violation["id"], violation["impact"], [node["html"][:160] for node in violation["nodes"]][:3])
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
