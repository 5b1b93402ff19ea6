"""What `inference-lab bench` writes keeps what it did not measure."""

from __future__ import annotations

from bench.__main__ import RESULTS, merged
from bench.bench_engines import ARCHITECTURE, name_of
from bench.engines_table import BEGIN, END, write_table
from core.variants import Image

MACHINE = {"at": "2026-11-27 10:00 UTC", "processor": "CPU", "cores": 2, "system": "Linux", "python": "3.11"}
MACHINE |= {"commit": "abc", "load_average": [0.1]}


def record_of(name, comparisons):
    return {
        "name": name,
        "about": "What is measured.",
        "machine": MACHINE,
        "load_average_after": [0.2],
        "seconds": 1.0,
        "comparisons": comparisons,
    }


def comparison(what, ours, peer=()):
    names = {"unit": "ms", "peer_name": "", "better": "lower", "goal": "", "met": None, "note": ""}
    return {"what": what, "ours": list(ours), "peer": list(peer), **names}


def test_running_one_bench_keeps_the_sections_of_the_others():
    before = RESULTS.read_text(encoding="utf-8")
    after = merged(before, [record_of("engines", [comparison("a start", (7.0,))])])
    old, new = (text.split("\n## ")[1:] for text in (before, after))
    assert "| a start |" in after
    kept = [section for section in old if not section.startswith("engines")]
    assert [section.strip() for section in new if not section.startswith("engines")] == [one.strip() for one in kept]
    assert merged(after, []) == after


def test_the_table_of_engines_replaces_the_earlier_one_and_nothing_else(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nan earlier table\n{END}\nafter\n")
    litert = Image("mobilenet", "litert", ARCHITECTURE)
    found = [comparison(name_of(litert, "start to first answer"), (300.0, 310.0, 305.0))]
    paper = Image("mobilenet", "tensorflow", ARCHITECTURE)
    found.append(comparison(name_of(paper, "start to first answer"), (900.0,), (4000.0,)))
    write_table(path, record_of("engines", found))
    text = path.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "earlier" not in text
    assert "| MobileNet | LiteRT | 305 |" in text
    assert "| MobileNet | Keras predict() | 4,000 |" in text
    write_table(path, record_of("engines", found))
    assert path.read_text() == text
