"""How the swapping experiment's records name their cell of memory size and CPU share. No I/O."""

from __future__ import annotations

from typing import Final

SWAPPING: Final = "swapping"  # the protocol of `inference-lab experiments swapping`
# Two named groups, so that polars can extract both columns by the same expression.
CELL_PATTERN: Final = r"^memory_mb=(?P<memory_mb>\d+) vcpu=(?P<vcpu>\d+(?:\.\d+)?)$"


def cell_name(memory_mb: int, vcpu: float) -> str:
    """Return the name of a cell, which CELL_PATTERN reads back."""
    return f"memory_mb={memory_mb} vcpu={vcpu}"
