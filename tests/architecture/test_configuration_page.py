"""docs/reference/configuration.md names every key there is, and none that is not."""

from __future__ import annotations

import re
import tomllib

import pytest
from pydantic import BaseModel

from core.configuration import Configuration, parse_configuration
from core.models import Model
from core.paths import BENCHMARK_TOML, REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "configuration.md"


def keys(model, prefix=""):
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_page_has_a_row_for_every_key_of_the_model_and_no_other():
    text = PAGE.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", text, re.MULTILINE))
    known = set(keys(Configuration))
    # What has no table of its own stands in the text.
    in_text = {"schema_version", "profile", "prices", "models"}
    assert rows == (known - in_text) | set(keys(Model))
    assert all(f"`{name}`" in text for name in in_text)


def test_the_file_of_the_repository_writes_every_key_out():
    def leaves(table, prefix=""):
        for name, value in table.items():
            if isinstance(value, dict) and prefix + name not in {"prices", "models"}:
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield prefix + name

    tables = tomllib.loads(BENCHMARK_TOML.read_text(encoding="utf-8"))
    tables.pop("profile")
    # The profile's name is no key to write.
    assert set(leaves(tables)) == set(keys(Configuration)) - {"profile"}


def test_the_page_names_every_allowed_value_of_a_choice():
    text = PAGE.read_text(encoding="utf-8")
    for word in ("resnet50", "inceptionv3", "mobilenet", "x86_64", "arm64", "scheduled", "forced", "burst", "linear"):
        assert f"`{word}`" in text


@pytest.mark.parametrize(
    "page",
    [page for page in (REPOSITORY / "docs").glob("*/*.md") if "```toml" in page.read_text(encoding="utf-8")],
    ids=lambda page: page.name,
)
def test_the_settings_that_a_page_shows_are_valid(page):
    shown = "\n".join(re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    as_profile = re.sub(r"^\[(profile\.\w+\.)?", "[profile.page.", shown, flags=re.MULTILINE)
    parse_configuration(f"{BENCHMARK_TOML.read_text(encoding='utf-8')}\n{as_profile}", profile="page")
