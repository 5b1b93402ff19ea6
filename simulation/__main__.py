"""`inference-lab simulation`: compile the simulation, so that the first report does not wait for it."""

from __future__ import annotations

import os

from core.program.command_line import Parser


def build_parser() -> Parser:
    return Parser(
        prog="inference-lab simulation",
        description="Compile the traffic simulation once per machine, so that the first report does not wait for it. "
        "That is all it does: `inference-lab analysis traffic` simulates.",
    )


def main() -> None:
    build_parser().parse_args()
    # The compiler takes a second to import; `--help` should not wait for it.
    from simulation.arrivals import HOURS_PER_WEEK, Shaped  # noqa: PLC0415 - as the comment says
    from simulation.levels import find_levels, share_within  # noqa: PLC0415 - as the comment says

    os.nice(10)  # whoever started it has something better to do meanwhile
    bursts = Shaped((0.1,) * HOURS_PER_WEEK, (100.0, 100.0))
    find_levels(bursts, 0.1, 1.0, 600.0)
    share_within(bursts, 1, 0.1, 1.0, 600.0)


if __name__ == "__main__":
    main()
