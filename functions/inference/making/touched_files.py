"""Measure which files of the finished image a start reads, and add it to the model's metadata.

    python touched_files.py --built-on=linux/amd64 --runs-on=linux/amd64

Makes one start with its first call, so an image whose handler cannot answer is not built. Of a mapped file the pages
in memory count; the kernel maps a page that is used together with its neighbors, 64 KiB in all. A file that is opened
counts whole. Nothing of it runs in a deployed function.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, Final

# Lambda fetches an image in chunks of this size: https://www.usenix.org/conference/atc23/presentation/brooker
CHUNK_BYTES: Final = 512 * 1024
ROOT: Final = Path(__file__).resolve().parent
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
WORTH_DROPPING_BYTES: Final = 64 * 1024  # what the kernel maps around a page that is used
LARGEST: Final = 10  # how many files are named


def drop_from_cache(folder: Path) -> None:
    """Have the kernel read the folder's files again.

    A file that was written a moment ago is cached in pieces of up to 2 MiB, which a use of one page maps as a whole. A
    file that another process has mapped stays as it is.
    """
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > WORTH_DROPPING_BYTES:
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)  # only what is on disk can be dropped
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


def pages_in_memory(maps: Iterable[str], pagemap: BinaryIO) -> dict[str, set[int]]:
    """Path of every mapped file to the numbers of its pages that this process has used.

    Reads /proc/self/maps and /proc/self/pagemap (Linux, Documentation/admin-guide/mm/pagemap.rst): 64 bits per page,
    of which bit 63 is set for a page in memory and bit 62 for one that was swapped out.
    """
    found: dict[str, set[int]] = {}
    for line in maps:
        addresses, _, offset, _, _, *path = line.split(maxsplit=5)
        if not path or not path[0].startswith("/"):
            continue
        start, end = (int(address, 16) // PAGE_BYTES for address in addresses.split("-"))
        pagemap.seek(start * 8)
        entries = array("Q", pagemap.read((end - start) * 8))
        first = int(offset, 16) // PAGE_BYTES
        found.setdefault(path[0].rstrip("\n"), set()).update(
            first + number for number, entry in enumerate(entries) if entry >> 62
        )
    return found


def summed_up(pages: Mapping[str, set[int]], opened: Iterable[str], folders: Iterable[str]) -> dict[str, Any]:
    """Files, bytes, and chunks in `folders`, and the largest files by name.

    Files of less than a chunk share chunks: they count as if they were stored one after the other.
    """

    def name_of(path: str) -> str | None:
        inside = [folder for folder in folders if path.startswith(folder + os.sep)]
        return os.path.relpath(path, max(inside, key=len)) if inside else None

    sizes: dict[str, int] = {}
    chunks = small_bytes = 0
    for path in {*pages, *opened}:
        name = name_of(path)
        if name is None or not Path(path).is_file():
            continue
        whole = Path(path).stat().st_size
        sizes[name] = min(whole, len(pages[path]) * PAGE_BYTES) if path in pages else whole
        if whole < CHUNK_BYTES:
            small_bytes += sizes[name]
        elif path in pages:
            chunks += len({number * PAGE_BYTES // CHUNK_BYTES for number in pages[path]})
        else:
            chunks += -(-whole // CHUNK_BYTES)
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:LARGEST]
    return {
        "files": len(sizes),
        "bytes": sum(sizes.values()),
        "chunks": chunks + -(-small_bytes // CHUNK_BYTES),
        "largest": [{"file": name, "bytes": size} for name, size in largest],
    }


def measure() -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Start the handler in this process and have it answer; the model's metadata, and what that read if it shows."""
    numpy = importlib.util.find_spec("numpy")
    if numpy is None or numpy.origin is None:
        raise ModuleNotFoundError("numpy is not installed: the image has no packages")
    packages = Path(numpy.origin).parents[1]
    for folder in (ROOT, packages):
        drop_from_cache(folder)
    opened: set[str] = set()
    sys.addaudithook(lambda event, about: opened.add(str(about[0])) if event == "open" else None)
    import handler  # noqa: PLC0415 - the start that is measured

    handler.handler({"image": next(iter(handler.packed))}, SimpleNamespace(aws_request_id="build"))
    model = ROOT / "model"
    try:
        with Path("/proc/self/maps").open() as maps, Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            pages = pages_in_memory(maps, pagemap)
    except OSError as error:
        print(f"files read by a start: not measured ({error})")
        return handler.metadata, None
    # The engine reads the model's files in its own library, which shows neither as a mapping nor as Python's opening.
    files = {os.path.realpath(path) for path in (*opened, *map(str, model.rglob("*")))}
    folders = [os.path.realpath(folder) for folder in (ROOT, packages)]
    return handler.metadata, summed_up(pages, files, folders)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built-on", default="")
    parser.add_argument("--runs-on", default="")
    options = parser.parse_args()
    if options.built_on != options.runs_on:
        print("files read by a start: not measured, as the image is for another platform than this one")
        return 0
    metadata, touched = measure()
    path = ROOT / "model" / "metadata.json"
    path.unlink()  # it may be a hard link
    path.write_text(json.dumps({**metadata, "touched": touched}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    path.chmod(0o644)
    return 0


if __name__ == "__main__":
    sys.exit(main())
