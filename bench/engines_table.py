"""The table of engines and models in README.md, written from the results of `inference-lab bench engines`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.bench_engines import ARCHITECTURE, MODELS, PEER, name_of
from bench.measurement import figure
from core.models import ENGINE_NAMES
from core.variants import DISPLAY_NAMES, ENGINES, MEMORY_MB_PER_VCPU, PAPER_ENGINE, Image

BEGIN: Final = "<!-- written by `inference-lab bench engines` -->"
END: Final = "<!-- end of what it writes -->"
# Column head -> the quantity of the bench.
COLUMNS: Final = {
    "start to first answer, ms": "start to first answer",
    "warm call, ms": "warm call",
    "peak memory, MB": "peak memory",
    "image, MB": "image",
    "USD per million": "price of warm calls",
}
PEER_COLUMNS: Final = 3  # of Keras's handler: it has no image of its own


def table(record: Mapping[str, Any]) -> str:
    """Return the table in Markdown: medians, a row per model and engine, and the plain Keras handler next to them."""
    found = {one["what"]: one for one in record["comparisons"]}
    lines = [f"| model | engine | {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * len(COLUMNS)]
    for model in MODELS:
        rows = {engine: _row(found, Image(model, engine, ARCHITECTURE), "ours") for engine in ENGINES}
        peer = _row(found, Image(model, PAPER_ENGINE, ARCHITECTURE), "peer")[:PEER_COLUMNS]
        names = [(ENGINE_NAMES[engine], cells) for engine, cells in rows.items()]
        for engine, cells in [*names, (PEER, [*peer, "", ""])]:
            if any(cells):
                lines.append(f"| {DISPLAY_NAMES[model]} | {engine} | {' | '.join(cells)} |")
    machine = record["machine"]
    about = (
        f"Medians on one core of {machine['processor']}, {machine['at'][:10]}, load average "
        f"{machine['load_average'][0]:g},\nseeded random weights. TensorFlow, Keras, and OpenVINO are capped at AVX2; "
        f"ONNX Runtime and\nLiteRT cannot be. Prices are for {MEMORY_MB_PER_VCPU:,} MB with this machine's times, "
        "without a gateway.\nImages are without AWS's base."
    )
    return "\n".join([*lines, "", about])


def _row(found: Mapping[str, Any], image: Image, side: str) -> list[str]:
    cells = []
    for quantity in COLUMNS.values():
        values = (found.get(name_of(image, quantity)) or {}).get(side)
        cells.append(figure(statistics.median(values)) if values else "")
    return cells


def write_table(path: Path, record: Mapping[str, Any]) -> None:
    """Put the table between its two marks in a file."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{table(record)}\n\n{END}{after}", encoding="utf-8")
