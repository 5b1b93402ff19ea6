"""The files of its image that a start reads, measured by the build, with advice on the largest. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from analysis.summary import TouchedFile, TouchedFiles
from core.variants import Image

BYTES_PER_MB: Final = 1_000_000
NOT_MEASURED: Final = (
    "the logs do not name the files that a start reads: the image has its own handler, is older, or was built for "
    "another platform than the building machine's"
)
# Start of a file's name -> what makes a start read less of it; the first that fits.
ADVICE: Final[dict[str, str]] = {
    "model/": "Use a smaller or a quantized model.",
    "tensorflow/": "Use another engine: all of TensorFlow is in this library.",
    "onnxruntime/": "Needed. A build of ONNX Runtime with your model's operators alone is smaller.",
    "ai_edge_litert/": "Needed. The engine has no smaller part.",
    "openvino/libs/libopenvino_intel_cpu": "Needed: it computes on the CPU. Another engine's library is smaller.",
    "openvino/": "Remove what your model's format does not need, such as the frontends of other formats.",
    "numpy": "Needed by every engine's Python package.",
    "pillow.libs/": "Loaded with Pillow. A decoder of your pictures' format alone reads less.",
    "PIL/": "Loaded with Pillow. A decoder of your pictures' format alone reads less.",
    "images/": "Use smaller pictures.",
}
OTHER_ADVICE: Final = "Import it when a call first needs it, or remove it if no call does."


@dataclass(frozen=True)
class Touched:
    """The files of one image that a start read until its first answer."""

    files: int
    size_bytes: int
    chunks: int  # of 512 KiB
    largest: tuple[tuple[str, int], ...]  # name in the image, bytes


def parse_touched(record: Any) -> Touched | None:
    """Read the measurement from the function's description of its model; None if it is missing or incomplete."""
    if not isinstance(record, Mapping) or not isinstance(record.get("largest"), list):
        return None
    counts = [record.get(name) for name in ("files", "bytes", "chunks")]
    largest = [(one.get("file"), one.get("bytes")) for one in record["largest"] if isinstance(one, Mapping)]
    numbers = [*counts, *(size for _, size in largest)]
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers):
        return None
    files, size_bytes, chunks = (int(count or 0) for count in counts)
    return Touched(files, size_bytes, chunks, tuple((str(name), int(size or 0)) for name, size in largest))


def touched_files(images: Iterable[Image], measured: Mapping[str, Touched | None]) -> tuple[TouchedFiles, ...]:
    """One record per image; `measured` by the key of the image."""
    return tuple(_of(image, measured.get(image.key)) for image in images)


def _of(image: Image, touched: Touched | None) -> TouchedFiles:
    return TouchedFiles(
        model=image.model,
        engine=image.engine,
        architecture=image.architecture,
        display_name=image.display_name,
        files=touched.files if touched else None,
        mb=touched.size_bytes / BYTES_PER_MB if touched else None,
        chunks=touched.chunks if touched else None,
        largest=tuple(
            TouchedFile(file=name, mb=size / BYTES_PER_MB, advice=advice_for(name)) for name, size in touched.largest
        )
        if touched
        else (),
        reason="" if touched else NOT_MEASURED,
    )


def advice_for(name: str) -> str:
    """Return advice on how a start can read less of a file."""
    return next((advice for start, advice in ADVICE.items() if name.startswith(start)), OTHER_ADVICE)
