"""`python -m simulation`: compile the simulation, so that the first report does not wait for it."""

from __future__ import annotations

import os

from simulation.arrivals import HOURS_PER_WEEK, Shaped
from simulation.levels import find_levels, share_within

_BURSTS = Shaped((0.1,) * HOURS_PER_WEEK, (100.0, 100.0))


def main() -> None:
    os.nice(10)  # whoever started it has something better to do meanwhile
    find_levels(_BURSTS, 0.1, 1.0, 600.0)
    share_within(_BURSTS, 1, 0.1, 1.0, 600.0)


if __name__ == "__main__":
    main()
