"""The lab's own page in Chromium: what it shows while a function is called, crashes, and is deleted."""

import json
import urllib.request

import pytest
from axe_playwright_python.sync_playwright import Axe

from lab.page import ACTIVITY_PATH, PAGE_PATH
from tests.lab.robustness.support import deploy, invoke, new_name, wait_until
from tests.lab_support import running_lab

PATIENCE_MS = 120_000  # a bound for a loaded machine; every wait is for something that the page shows


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_IMAGES", str(tmp_path_factory.mktemp("images")))
        yield


@pytest.fixture(scope="module")
def deployed(images, tmp_path_factory):
    with running_lab(state=tmp_path_factory.mktemp("state")) as lab:
        name = new_name()
        api = deploy(lab, name)
        yield lab, name, api


@pytest.fixture(scope="module")
def complaints():
    return []


@pytest.fixture(scope="module")
def page(chromium, deployed, complaints):
    lab, _, _ = deployed
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(lab.url) else None)
    page.goto(lab.url + PAGE_PATH)
    page.wait_for_selector("#functions tr")
    yield page
    context.close()


def press_invoke(page, name, event):
    page.get_by_label("Event for the Invoke buttons").fill(json.dumps(event))
    page.get_by_role("button", name=f"Invoke {name}").click()


def activity(lab):
    with urllib.request.urlopen(lab.url + ACTIVITY_PATH, timeout=600) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_call_shows_its_answer_environment_and_report(deployed, page, complaints):
    lab, name, api = deployed
    assert page.locator("#functions a").first.get_attribute("href").startswith(f"http://{api}.execute-api.localhost:")
    press_invoke(page, name, {"do": "echo", "x": 7})
    page.locator("#answer", has_text=": 200").wait_for()
    page.wait_for_selector("#functions .environment.frozen")
    page.wait_for_selector("#invocations tr")
    (shown,) = activity(lab)["invocations"]
    row = page.locator("#invocations tr").first.inner_text()
    for figure in (shown["report"]["init_duration_ms"], shown["report"]["duration_ms"]):
        assert figure is None or f"{figure:.1f}" in row  # no init of its own where that was cut off after 10 s
    assert complaints == []


@pytest.mark.slow
def test_a_crash_shows_as_failed_and_a_deleted_function_leaves(deployed, page):
    lab, _, _ = deployed
    other = new_name()
    deploy(lab, other, rest=False)
    page.get_by_role("button", name=f"Invoke {other}").wait_for()
    press_invoke(page, other, {"do": "nothing of the kind"})
    page.wait_for_selector("#invocations td.reset")
    lab.client("lambda").delete_function(FunctionName=other)
    page.get_by_role("button", name=f"Invoke {other}").wait_for(state="detached")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_the_page(page, scheme):
    page.emulate_media(color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in {"serious", "critical"}] == []


@pytest.mark.slow
def test_the_page_says_when_the_lab_is_gone(chromium, images, tmp_path):
    with running_lab(state=tmp_path / "state") as lab:
        page = chromium.new_context().new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(lab.url + PAGE_PATH)
        page.get_by_text("No function is deployed").wait_for()
    page.get_by_text("The lab does not answer").wait_for()


def test_the_activity_names_what_was_invoked(images, tmp_path):
    with running_lab(state=tmp_path / "state") as lab:
        name = new_name()
        deploy(lab, name, rest=False)
        invoke(lab, name, {"do": "echo"})
        wait_until(lambda: activity(lab)["invocations"], "the report of the call")  # comes after the answer
        seen = activity(lab)
    assert [one["name"] for one in seen["functions"]] == [name]
    assert [(one["function"], one["function_error"]) for one in seen["invocations"]] == [(name, False)]
    assert [one["state"] for one in seen["environments"]] in (["idle"], ["frozen"])
