"""Reading Dockerfiles and .dockerignore: what is understood, and that the rest is refused by name and line."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.images.dockerfile import DockerfileError, Instruction, exec_form, expand, pairs, parse, split_stages
from lab.images.dockerignore import matcher


def test_comments_blank_lines_and_continuations_are_joined_away() -> None:
    text = "# syntax=docker/dockerfile:1\nARG A=1\n\nFROM base\nrun python \\\n# in between\n   x.py \\\n  --flag\n"
    assert parse(text) == (
        Instruction("ARG", "A=1", 2),
        Instruction("FROM", "base", 4),
        Instruction("RUN", "python x.py --flag", 5),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM a\nADD x y", ["Dockerfile:2", "ADD", "allowed", "COPY"]),
        ("FROM a\nHEALTHCHECK NONE", ["Dockerfile:2", "HEALTHCHECK"]),
        ("RUN x\nFROM a", ["Dockerfile:1", "before FROM"]),
        ("", ["no FROM"]),
        ("FROM a\nCOPY", ["Dockerfile:2", "no argument"]),
        ("FROM a\nRUN python x \\", ["Dockerfile:2", "backslash"]),
        ("FROM a\nRUN <<EOF\nx\nEOF", ["Dockerfile:2", "here-documents"]),
        ("# escape=`\nFROM a", ["Dockerfile:1", "escape"]),
    ],
)
def test_what_is_not_understood_is_refused_by_line(text: str, words: list[str]) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    assert all(word in str(caught.value) for word in words)


def test_stages_are_told_apart_by_name_and_number() -> None:
    before, stages = split_stages(
        parse("ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS Build\nRUN python x.py\nFROM b\nCOPY x y")
    )
    assert [str(one) for one in before] == ["ARG V=1"]
    assert [(stage.name, stage.platform) for stage in stages] == [("build", "$BUILDPLATFORM"), ("1", "")]
    assert [[one.name for one in stage.instructions] for stage in stages] == [["FROM", "RUN"], ["FROM", "COPY"]]


@pytest.mark.parametrize("text", ["FROM a AS", "FROM a b c", "FROM a AS x\nFROM x"])
def test_a_from_line_out_of_the_subset_is_refused_by_line(text: str) -> None:
    with pytest.raises(DockerfileError, match=r"line [12]: "):
        split_stages(parse(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A-${A}-${B:-else}-${A:+there}-${B:+there}", "1-1-else-there-"),
        (r"\$A $", "$A $"),
        ("$UNKNOWN/x", "/x"),
        ("${A}${A}", "11"),
    ],
)
def test_variables_are_replaced_as_docker_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@given(st.text(alphabet=string.ascii_letters + string.digits + "_-./ {}:+"))
def test_a_text_without_dollar_and_backslash_stays_as_it_is(text: str) -> None:
    assert expand(text, {"A": "1"}) == text


@given(st.text())
def test_any_text_is_parsed_or_refused_and_nothing_else(text: str) -> None:
    try:
        instructions = parse(text)
    except DockerfileError:
        return
    assert any(instruction.name == "FROM" for instruction in instructions)


@given(
    st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True), st.text(alphabet=string.ascii_letters + " "))
)
def test_env_pairs_come_back(values: dict[str, str]) -> None:
    if values:
        line = " ".join(f'{key}="{value}"' for key, value in values.items())
        assert pairs(Instruction("ENV", line, 1), {}) == values


def test_env_takes_the_old_form_and_refuses_half_a_pair() -> None:
    assert pairs(Instruction("ENV", "PATH /a/b c", 1), {}) == {"PATH": "/a/b c"}
    with pytest.raises(DockerfileError):
        pairs(Instruction("ENV", "A=1 B", 3), {})
    with pytest.raises(DockerfileError):
        pairs(Instruction("ENV", "A='1", 3), {})


@pytest.mark.parametrize("text", ["handler.handler", "[]", "[1]", '{"a": 1}', '["x"'])
def test_a_command_in_shell_form_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError, match="JSON list"):
        exec_form(Instruction("CMD", text, 9))


@pytest.mark.parametrize(
    ("pattern", "path", "out"),
    [
        ("model", "model/a/b.pb", True),
        ("model", "src/model/a", False),
        ("**/__pycache__", "a/b/__pycache__/x.pyc", True),
        ("**/*.pyc", "x.pyc", True),
        ("*.md", "docs/README.md", False),
        ("images/*.md\n!images/keep.md", "images/keep.md", False),
        ("images/*.md\n!images/keep.md", "images/other.md", True),
        ("/a?c[de]", "abcd", True),
        ("# model\n\n", "model", False),
        ("a.b", "axb", False),
        ("[^a].md", "a.md", False),
        ("a/../b/", "b/c", True),
    ],
)
def test_dockerignore_leaves_out_what_docker_leaves_out(pattern: str, path: str, out: bool) -> None:
    assert matcher(pattern)(path) is out
