"""`inference-lab analysis power-tuning`: write what aws-lambda-power-tuning reads, or compare its result."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from analysis.command_line import command_parser
from analysis.pipeline import read_summary
from analysis.report.power_tuning import (
    beside_power_tuning,
    power_tuning_input,
    power_tuning_markdown,
    read_power_tuning,
)
from core import strict_json
from core.configuration import read_configuration
from core.errors import EXIT_OK, UserError
from core.run.run_directory import find_run


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "power-tuning", "Write the input of aws-lambda-power-tuning, or compare its result with a run."
    )
    parser.add_argument("model", help="a model of benchmark.toml")
    parser.add_argument("--engine", help="an engine of the run (default: the only one that ran the model)")
    parser.add_argument("--input-for", metavar="ARN", help="print the state machine's input for this function")
    parser.add_argument(
        "--samples", type=int, metavar="N", default=50, help="invocations per memory size (default: 50)"
    )
    parser.add_argument("--result", type=Path, metavar="FILE", help="read the state machine's output from this file")
    parser.add_argument("--run", default="latest", help="name or directory of the run to compare (default: latest)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Print the state machine's input as JSON, or its result next to ours as Markdown."""
    chosen = build_parser().parse_args(arguments)
    if chosen.input_for:
        matrix = read_configuration().matrix
        _check_model(chosen.model, matrix.models)
        text = power_tuning_input(chosen.input_for, matrix.memory_sizes_mb, samples=chosen.samples)
        print(strict_json.dumps(text, indent=2))
    elif chosen.result:
        print(_beside(chosen))
    else:
        raise UserError("nothing to do", hint="Name --input-for ARN to write the input, or --result FILE to read one.")
    return EXIT_OK


def _beside(chosen: argparse.Namespace) -> str:
    try:
        text = chosen.result.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{chosen.result} cannot be read: {error}") from None
    theirs = read_power_tuning(text)
    summary = read_summary(find_run(chosen.run, chosen.results))
    _check_model(chosen.model, [image.model for image in summary.images])
    images = {image.engine: image for image in summary.images if image.model == chosen.model}
    engine = chosen.engine or (next(iter(images)) if len(images) == 1 else "")
    if engine not in images:
        raise UserError(
            f"the run has no {chosen.model} on {engine!r}" if engine else f"{chosen.model} ran on several engines",
            hint=f"Name one with --engine: {', '.join(images)}.",
        )
    return power_tuning_markdown(beside_power_tuning(summary, images[engine], theirs))


def _check_model(model: str, known: Collection[str]) -> None:
    if model not in known:
        raise UserError(f"there is no model {model!r}", hint=f"There are: {', '.join(dict.fromkeys(known))}.")
