"""What two files agree on is spelled once: names of files, addresses, headers, variables, and long texts."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from core.paths import REPOSITORY
from tests.architecture.test_imports import ROOMS, python_files

# Contracts of this project. AWS's own names, such as AWS_REGION and x-amzn-trace-id, change for nobody.
CONTRACT = re.compile(
    r"[{}/.-]*[\w*][\w*{}/.-]*\.(?:csv|gz|html|json|jsonl|log|md|parquet|toml)"  # a file
    r"|(?:BENCHMARK|INFERENCE|LAB)_[A-Z_]+|AWS_ENDPOINT_URL"  # a variable
    r"|/_\w.*|/aws/\w.*"  # an address of the lab, a log group
    r"|x-(?!amzn?-)[a-z-]+"  # a header
)
OF_EACH_FILE = {
    "lab.log": "demo and trial each name the log of the lab that they start",
}
SENTENCE_WORDS = 6


def spelled(path: Path) -> Iterator[str]:
    """Yield the texts in a file's code, docstrings left out; `{}` is where an f-string has a value."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    pieces = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings, to begin with
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield "".join(str(text) for text in texts)
            # An address may begin an f-string: its first piece is looked at by itself as well.
            pieces |= {id(part) for part in node.values[1:]}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
            yield node.value


def test_a_contract_or_a_sentence_is_spelled_in_one_file() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for room in sorted(set(ROOMS) - {"functions"}):  # functions/ stands alone in its image and imports nothing
        for path in python_files(room):
            for text in spelled(path):
                if CONTRACT.fullmatch(text) or text.count(" ") >= SENTENCE_WORDS:
                    places[text].add(path.relative_to(REPOSITORY).as_posix())
    twice = {text: sorted(files) for text, files in places.items() if len(files) > 1 and text not in OF_EACH_FILE}
    assert not twice, "name it once, for several rooms in core/:\n" + "\n".join(
        f"{text!r}: {files}" for text, files in twice.items()
    )
