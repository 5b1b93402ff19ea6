"""Leave of an installed TensorFlow what its C API needs: two shared libraries, without their symbol tables.

    python trimming.py

Of 1.3 GB 0.6 GB stay. Where TensorFlow is not installed nothing is done.
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import sys
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
# Fields of a 64-bit ELF header and of its program headers: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER: Final = struct.Struct("<IIQQQQQQ")


def trim(package: Path) -> None:
    """Remove everything in the package's folder but the two libraries, cut to what the dynamic linker loads."""
    for path in package.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name in LIBRARIES:
            _strip(path)
        else:
            path.unlink()


def _strip(library: Path) -> None:
    """Cut off everything after the last segment, as `strip` does; the base image has no binutils.

    The linker goes by segments. Sections, with the symbol table and its names, are for debuggers. The file is written
    again, as it may be a hard link.
    """
    content = library.read_bytes()
    fields = list(HEADER.unpack_from(content))
    offset, count = fields[5], fields[10]
    segments = [PROGRAM_HEADER.unpack_from(content, offset + number * PROGRAM_HEADER.size) for number in range(count)]
    end = max(segment[2] + segment[5] for segment in segments)  # offset in the file, size in the file
    fields[6] = fields[12] = fields[13] = 0  # offset and number of section headers, section of their names
    library.unlink()
    library.write_bytes(HEADER.pack(*fields) + content[HEADER.size : end])
    library.chmod(0o755)


def main() -> int:
    found = importlib.util.find_spec("tensorflow")
    for folder in (found.submodule_search_locations or ()) if found else ():
        trim(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
