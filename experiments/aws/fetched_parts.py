"""Parts of record files as tasks ship them, put together below a run's directory.

The size of a file says which of its parts it has. Fetching again after a kill therefore neither loses nor doubles a
record, and nothing else has to be kept.
"""

from __future__ import annotations

import os
from pathlib import Path

from core.aws.load_tasks import Part
from core.run.run_directory import RunDirectory, append_line
from core.run.stages import STAGES_FILE


def path_of(run: RunDirectory, part: Part) -> Path:
    """Return the file of a task in the run: its own name, then attempt and task, which other files may share."""
    name = Path(part.file)
    return run.root / name.with_name(f"{name.stem}-{part.attempt}-{part.task}{name.suffix}")


def put(run: RunDirectory, part: Part, content: bytes) -> bool:
    """Put a part in its place and bring it to disk; False where a part before it is still missing."""
    path = path_of(run, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        size = file.tell()
        if size < part.offset:
            return False
        if size >= part.offset + len(content):
            return True
        file.truncate(part.offset)  # half a part, which a kill left
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return True


def take_over_stages(run: RunDirectory) -> None:
    """Add to the run's stages those that masters wrote down, each once."""
    own = run.root / STAGES_FILE
    known = set(own.read_text(encoding="utf-8").splitlines()) if own.exists() else set()
    name = Path(STAGES_FILE)
    for path in sorted(run.root.glob(f"{name.stem}-*{name.suffix}")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line not in known:
                append_line(own, line)
                known.add(line)
