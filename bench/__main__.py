"""`inference-lab bench [NAME ...]`: run the benches, each in a fresh process, and write bench/RESULTS.md."""

from __future__ import annotations

import core.program.quiet_start  # noqa: F401 - imported for its effect

# isort: split
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.engines_table import write_table
from bench.measurement import HEADER, RAW, Comparison
from core import strict_json
from core.errors import EXIT_ERROR, EXIT_OK, UserError, run_command
from core.paths import REPOSITORY
from core.program.command_line import Parser

INTRODUCTION: Final = (
    "# Results of `make bench`\n\n"
    "Written by `inference-lab bench`. Each figure is a median over runs with the lowest and the highest next to it;\n"
    "a ratio is ours over the peer's, both from the same minutes on the same machine. A shared or busy machine\n"
    "shows in the load average. Other machines have other figures: run it there.\n"
)
README: Final = REPOSITORY / "README.md"
RESULTS: Final = Path(__file__).resolve().parent / "RESULTS.md"


def benches() -> list[str]:
    """Return the names of all benches."""
    return sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def build_parser() -> Parser:
    parser = Parser(
        prog="inference-lab bench",
        description="Run benches next to their peers and write bench/RESULTS.md. A bench that fails keeps its last "
        "results and fails the command.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"bench to run: {', '.join(benches())} (default: all)")
    parser.add_argument("--quick", action="store_true", help="only check that the benches work; write no results")
    return parser


def main() -> int:
    """Run the benches that were named, or all; a bench that fails keeps its last results and fails the command."""
    available = benches()
    options = build_parser().parse_args()
    unknown = sorted(set(options.names) - set(available))
    if unknown:
        raise UserError(f"no bench {', '.join(unknown)}", hint=f"There are: {', '.join(available)}.")
    RAW.mkdir(exist_ok=True)
    names = options.names or available
    failed = [name for name in names if not _run(name, quick=options.quick)]
    if not options.quick:
        paths = [RAW / f"{name}.json" for name in names]
        records = [strict_json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
        RESULTS.write_text(merged(RESULTS.read_text(encoding="utf-8"), records), encoding="utf-8")
        print(f"written: {RESULTS.relative_to(REPOSITORY)}", file=sys.stderr)
        for record in records:
            if record["name"] == "engines":
                write_table(README, record)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return EXIT_ERROR if failed else EXIT_OK


def _run(name: str, *, quick: bool) -> bool:
    print(f"bench {name}", file=sys.stderr, flush=True)
    raw = RAW / f"{name}{'.quick' if quick else ''}.json"
    command = [sys.executable, "-m", f"bench.bench_{name}", "--json", str(raw), *(["--quick"] if quick else [])]
    return subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0


def merged(results: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Put the sections of these records into the results, and leave those of other benches as they are."""
    sections = {text.partition("\n")[0]: text for text in results.split("\n## ")[1:]}
    sections |= {record["name"]: _section(record).removeprefix("## ") for record in records}
    return INTRODUCTION + "".join(f"\n## {sections[name].rstrip()}\n" for name in sorted(sections))


def _section(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    rows = [Comparison(**one) for one in record["comparisons"]]
    about = (
        f"{machine['at']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, commit {machine['commit']}; load average {machine['load_average'][0]} before, "
        f"{record['load_average_after'][0]} after; {record['seconds']:.0f} s."
    )
    return "\n".join(
        [f"## {record['name']}\n", record["about"], "", about, "", HEADER, *(row.line() for row in rows), ""]
    )


if __name__ == "__main__":
    run_command("bench", main)
