"""`python -m analysis`: everything that is done with a run after it was measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from analysis.command_line import percent
from analysis.traffic_options import add_traffic_parser
from core.command_line import Parser
from core.errors import EXIT_CHECK_FAILED, EXIT_OK, UserError, run_command


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("collect", help="fetch logs and metrics, then report (see collect --help)", add_help=False)
    report = commands.add_parser("report", help="make data, summary, figures and report anew from what was collected")
    report.add_argument("run", nargs="?", default="latest", help="a run's name or directory (default: latest)")
    report.add_argument("--results", type=Path, default=Path("results"), help="where runs are kept (default: results/)")
    report.add_argument(
        "--current-goal", action="store_true", help="take [goal], [traffic] and [prices] from today's benchmark.toml"
    )
    report.add_argument("--free-tier", action="store_true", help="count Lambda's free tier in the monthly cost")
    report.add_argument("--no-report", action="store_true", help="data and summary only")
    compare = commands.add_parser(
        "compare",
        help="differences of two runs, as Markdown; exit code 0: no regression, 2: a regression, 1: an error",
    )
    compare.add_argument("before", help="the older run's name or directory")
    compare.add_argument("after", help="the newer run's name or directory (`latest` too)")
    compare.add_argument(
        "--results", type=Path, default=Path("results"), help="where runs are kept (default: results/)"
    )
    compare.add_argument(
        "--threshold", type=percent, default=0.03, metavar="PERCENT", help="changes below this count as none (3%%)"
    )
    metrics = commands.add_parser("openmetrics", help="print a run's summary as OpenMetrics text")
    metrics.add_argument("run", nargs="?", default="latest", help="a run's name or directory (default: latest)")
    metrics.add_argument(
        "--results", type=Path, default=Path("results"), help="where runs are kept (default: results/)"
    )
    tuning = commands.add_parser(
        "power-tuning", help="aws-lambda-power-tuning: write its input, or set its result beside a run"
    )
    tuning.add_argument("model", help="a model of benchmark.toml")
    tuning.add_argument("--engine", help="an engine of the run (default: the only one that ran the model)")
    tuning.add_argument("--input-for", metavar="ARN", help="print the state machine's input for this function")
    tuning.add_argument("--samples", type=int, default=50, help="invocations for each memory size (default: 50)")
    tuning.add_argument("--result", type=Path, metavar="FILE", help="the state machine's output")
    tuning.add_argument("--run", default="latest", help="the run to set it beside (default: latest)")
    tuning.add_argument("--results", type=Path, default=Path("results"), help="where runs are kept (default: results/)")
    add_traffic_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["collect"]:
        from analysis.collect import main as collect_main  # noqa: PLC0415 - boto3 is slow to import

        return collect_main(words[1:])
    chosen = build_parser().parse_args(words)
    command = {
        "report": _report,
        "compare": _compare,
        "openmetrics": _openmetrics,
        "power-tuning": _power_tuning,
        "traffic": _traffic,
    }
    return command[chosen.command](chosen)


def _traffic(chosen: argparse.Namespace) -> int:
    from analysis.what_if import main as traffic_main  # noqa: PLC0415 - as above

    return traffic_main(chosen)


def _compare(chosen: argparse.Namespace) -> int:
    from analysis.compare import compare, has_regression, load_side, markdown  # noqa: PLC0415 - as above
    from core.run_directory import find_run  # noqa: PLC0415 - as above

    before, after = (load_side(find_run(name, chosen.results)) for name in (chosen.before, chosen.after))
    comparisons = compare(before, after, threshold=chosen.threshold)
    print(markdown(before.summary, after.summary, comparisons, chosen.threshold), end="")
    return EXIT_CHECK_FAILED if has_regression(comparisons) else EXIT_OK


def _openmetrics(chosen: argparse.Namespace) -> int:
    from analysis.open_metrics import open_metrics  # noqa: PLC0415 - as above
    from analysis.pipeline import read_summary  # noqa: PLC0415 - as above
    from core.run_directory import find_run  # noqa: PLC0415 - as above

    print(open_metrics(read_summary(find_run(chosen.run, chosen.results))), end="")
    return EXIT_OK


def _power_tuning(chosen: argparse.Namespace) -> int:
    from analysis import power_tuning  # noqa: PLC0415 - as above
    from analysis.pipeline import read_summary  # noqa: PLC0415 - as above
    from core.configuration import read_configuration  # noqa: PLC0415 - as above
    from core.run_directory import find_run  # noqa: PLC0415 - as above

    if chosen.input_for:
        matrix = read_configuration().matrix
        _check_model(chosen.model, matrix.models)
        sizes = matrix.memory_sizes_mb
        print(json.dumps(power_tuning.power_tuning_input(chosen.input_for, sizes, samples=chosen.samples), indent=2))
        return EXIT_OK
    if chosen.result is None:
        raise UserError("nothing to do", hint="Name --input-for ARN to write the input, or --result FILE to read one.")
    try:
        text = chosen.result.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{chosen.result} cannot be read: {error}") from None
    theirs = power_tuning.read_power_tuning(text)
    summary = read_summary(find_run(chosen.run, chosen.results))
    _check_model(chosen.model, [image.model for image in summary.images])
    images = {image.engine: image for image in summary.images if image.model == chosen.model}
    engine = chosen.engine or (next(iter(images)) if len(images) == 1 else "")
    if engine not in images:
        raise UserError(
            f"the run has no {chosen.model} on {engine!r}" if engine else f"{chosen.model} ran on several engines",
            hint=f"Name one with --engine: {', '.join(images)}.",
        )
    print(power_tuning.power_tuning_markdown(power_tuning.beside_power_tuning(summary, images[engine], theirs)))
    return EXIT_OK


def _check_model(model: str, known: Collection[str]) -> None:
    if model not in known:
        raise UserError(f"there is no model {model!r}", hint=f"There are: {', '.join(dict.fromkeys(known))}.")


def _report(chosen: argparse.Namespace) -> int:
    from analysis.collect import print_table  # noqa: PLC0415 - see above
    from analysis.pipeline import build  # noqa: PLC0415 - as above
    from analysis.progress import Progress  # noqa: PLC0415 - as above
    from core.configuration import read_configuration  # noqa: PLC0415 - as above
    from core.run_directory import find_run  # noqa: PLC0415 - as above

    run = find_run(chosen.run, chosen.results)
    with Progress() as progress:
        summary = build(
            run,
            goal_of=read_configuration() if chosen.current_goal else None,
            free_tier=chosen.free_tier,
            with_report=not chosen.no_report,
            say=progress.say,
        )
    print_table(summary)
    print(f"\n{run.root / 'summary.md' if chosen.no_report else run.report_path}")
    return EXIT_OK


if __name__ == "__main__":
    run_command("analysis", main)
