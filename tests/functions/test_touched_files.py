"""What a start reads of its image: pages of mapped files, and other files whole."""

from __future__ import annotations

import importlib.util
import mmap
from pathlib import Path
from types import ModuleType

import pytest

from core.variants import ENGINES
from tests.functions.conftest import FUNCTION, Built, metadata_of

CHUNK = 512 * 1024


@pytest.fixture(scope="module")
def program() -> ModuleType:
    found = importlib.util.spec_from_file_location("touched_files", FUNCTION / "making" / "touched_files.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_mapped_file_counts_by_the_pages_that_were_used(program: ModuleType, tmp_path: Path) -> None:
    library = tmp_path / "packages" / "a library.so"
    library.parent.mkdir()
    library.write_bytes(bytes(range(256)) * (4 * CHUNK // 256))
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        program.drop_from_cache(library.parent)
        assert mapped[2 * CHUNK] == 0
        with Path("/proc/self/maps").open() as maps, Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            pages = program.pages_in_memory(maps, pagemap)
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(bytes(2 * CHUNK + 1))
    (model / "small").write_bytes(bytes(CHUNK // 2))
    (model / "tiny").write_bytes(b"1")
    read = [*map(str, model.iterdir()), str(library), str(model), str(FUNCTION / "handler.py")]

    found = program.summed_up(pages, read, [str(tmp_path), str(tmp_path / "packages")])
    assert found["files"] == 4, "neither a folder nor a file of another place"
    assert found["chunks"] == 1 + 3 + 1, "one of the library, the weights, small files together"
    sizes = {one["file"]: one["bytes"] for one in found["largest"]}
    assert next(iter(sizes)) == "model/weights"
    assert 0 < sizes.pop("a library.so") <= CHUNK
    assert sizes == {"model/weights": 2 * CHUNK + 1, "model/small": CHUNK // 2, "model/tiny": 1}
    assert found["bytes"] == sum(one["bytes"] for one in found["largest"])


def test_at_most_ten_files_are_named(program: ModuleType, tmp_path: Path) -> None:
    for size in range(1, 13):
        (tmp_path / f"{size}.bin").write_bytes(bytes(size))
    found = program.summed_up({}, map(str, tmp_path.iterdir()), [str(tmp_path)])
    assert found["files"] == 12
    assert [one["bytes"] for one in found["largest"]] == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_build_measures_what_a_start_reads(engine: str, built: Built) -> None:
    metadata = metadata_of(built("mobilenet", engine))
    touched = metadata["touched"]
    assert touched["chunks"] * CHUNK >= touched["bytes"] - CHUNK
    assert len(touched["largest"]) == 10
    names = [one["file"] for one in touched["largest"]]
    assert any(name.startswith("model/") for name in names)
    assert any(engine.removesuffix("runtime") in name for name in names), "the engine's own library"
