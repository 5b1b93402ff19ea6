"""Each engine next to a plain Keras handler: start, forward pass, what is around it, memory, image size, price.

A process per environment, as Lambda has: Python starts, imports the handler, and answers. All of them run on one core,
in turn, on the same pictures, with the instruction sets of Lambda's x86 hosts where an engine can be told.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench.measurement import Comparison, hand_over, progress
from core import strict_json
from core.models import PAPER_MODELS
from core.money.prices import read_prices
from core.paths import REPOSITORY
from core.variants import ENGINES, MEMORY_MB_PER_VCPU, PAPER_ENGINE, Image
from lab.images.base import PACKAGES, make_base
from lab.images.build_plan import BuildRequest
from lab.images.builder import build
from lab.images.image_store import DirectoryImageStore

FUNCTION: Final = REPOSITORY / "functions" / "inference"
MODELS: Final = ("mobilenet", "resnet50", "inceptionv3")
PLATFORM: Final = "linux/arm64" if os.uname().machine in {"arm64", "aarch64"} else "linux/amd64"
ARCHITECTURE: Final = "arm64" if PLATFORM.endswith("arm64") else "x86_64"
# Environments of each engine, and warm calls of each: fewer where a call takes several times as long.
RUNS: Final = {"mobilenet": (5, 40), "resnet50": (3, 15), "inceptionv3": (3, 15)}
PEER: Final = "Keras predict()"
# Where the start goes, by the names of the handler's facts.
PHASES: Final = {
    "spawn_ms": "start, of it Python and the runtime",
    "import_ms": "start, of it import of the engine",
    "load_ms": "start, of it loading of the model",
    "first_inference_ms": "start, of it first forward pass",
    "first_call_ms": "start, of it first call",
}
# Keras as its documentation shows it: the network and its weights are made at start, predict() answers.
KERAS_HANDLER: Final = """
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np

APPLICATION, SIZE = os.environ["APPLICATION"], int(os.environ["SIZE"])
build = getattr(keras.applications, APPLICATION)
network = build(weights=None)
prepare = sys.modules[build.__module__].preprocess_input
pictures = {path.name: path for path in Path(os.environ["IMAGES"]).glob("*.jpg")}


def handler(event, context):
    picture = keras.utils.load_img(pictures[event["image"]], target_size=(SIZE, SIZE))
    batch = prepare(np.asarray(picture, np.float32)[np.newaxis])
    begun = time.perf_counter()
    scores = network.predict(batch, verbose=0)
    return {"inference_ms": (time.perf_counter() - begun) * 1000, "best": int(scores[0].argmax())}
"""
# What one environment does; its times are on the clock that its parent reads before it starts.
ENVIRONMENT: Final = """
import json, sys, time, types
out, sys.stdout = sys.stdout, sys.stderr
sys.path.insert(0, "")
import handler
context = types.SimpleNamespace(aws_request_id="00000000-0000-4000-8000-000000000000")

calls = []
phases = {}
answered = None
for number in range(int(sys.argv[1]) + 1):
    begun = time.perf_counter()
    facts = handler.handler({"image": f"generated-{number % 8}.jpg"}, context)
    calls.append([(time.perf_counter() - begun) * 1000, facts["inference_ms"], facts.get("decode_ms", 0.0)])
    if answered is None:
        answered = time.monotonic()
        phases = facts.get("phases", {})
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
memory = {name: int(status[key].split()[0]) / 1024 for name, key in (("peak", "VmHWM"), ("anonymous", "RssAnon"))}
first = {"first_call_ms": calls[0][0], **phases}
json.dump({"answered": answered, "first": first, "calls": calls[1:], "memory": memory}, out)
"""


@dataclass(frozen=True)
class Environment:
    """What one process measured."""

    start_ms: float  # from spawn to the first answer: the sum of PHASES
    phases_ms: Mapping[str, float]
    call_ms: float  # medians of warm calls
    forward_ms: float
    decode_ms: float
    peak_mb: float
    anonymous_mb: float


def measure(quick: bool) -> Iterator[Comparison]:
    """Every engine of every model, and the plain handler, in turn."""
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name:
        directory = Path(name)
        base = make_base(directory / "base")
        for model in MODELS[:1] if quick else MODELS:
            yield from _model(model, directory, base, quick=quick)


def _model(model: str, directory: Path, base: Path, *, quick: bool) -> Iterator[Comparison]:
    roots = {engine: _built(model, engine) for engine in ENGINES}
    plain = directory / model
    plain.mkdir()
    (plain / "handler.py").write_text(KERAS_HANDLER)
    record = PAPER_MODELS[model]
    keras = {
        "APPLICATION": record.application,
        "SIZE": str(record.input_size),
        "IMAGES": str(roots[PAPER_ENGINE] / "images"),
        "PYTHONPATH": str(_build_stage() / PACKAGES),
        # The build stage has no bytecode; an image of Keras would.
        "PYTHONPYCACHEPREFIX": str(directory / "bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    progress(f"{model}, once unmeasured: bytecode and file caches")
    _environment(base, plain, keras)
    for root in roots.values():
        _environment(base, root, {"PYTHONPATH": str(root / PACKAGES)})
    runs, calls = RUNS[model]
    found: dict[str, list[Environment]] = {engine: [] for engine in (*ENGINES, PEER)}
    for run in range(1 if quick else runs):
        progress(f"{model}, run {run + 1}")
        for engine, root in roots.items():
            found[engine].append(_environment(base, root, {"PYTHONPATH": str(root / PACKAGES)}, calls))
        found[PEER].append(_environment(base, plain, keras, calls))
    best = min(ENGINES, key=lambda engine: statistics.median(one.start_ms for one in found[engine]))
    for engine in ENGINES:
        image = Image(model, engine, ARCHITECTURE)
        yield from _compared(image, found[engine], found[PEER], roots[engine], quickest=engine == best)


def _compared(
    image: Image, ours: list[Environment], peer: list[Environment], root: Path, *, quickest: bool
) -> Iterator[Comparison]:
    """What the table of README.md shows of an engine, and the bars that it has to reach."""
    paper = image.engine == PAPER_ENGINE
    mobile = image.model == "mobilenet"

    def compared(quantity: str, unit: str, value: str, most: float | None = None) -> Comparison:
        mine, theirs = (tuple(getattr(one, value) for one in group) for group in (ours, peer))
        found = Comparison(name_of(image, quantity), unit, mine, theirs, PEER)
        if most is None or found.ratio is None:
            return found
        return replace(found, goal=f"at most {most:.2g} x", met=found.ratio <= most)

    yield compared("start to first answer", "ms", "start_ms", _start_bar(paper=paper, mobile=mobile, best=quickest))
    for phase, quantity in PHASES.items():
        yield Comparison(name_of(image, quantity), "ms", tuple(one.phases_ms[phase] for one in ours))
    yield compared("forward pass", "ms", "forward_ms", (1 / 5 if mobile else 1 / 3) if paper else None)
    yield compared("warm call", "ms", "call_ms")
    around = tuple(one.call_ms / one.forward_ms for one in ours)
    goal = "at most 1.15" if paper else ""
    met = statistics.median(around) <= 1.15 if paper else None
    yield Comparison(name_of(image, "warm call over forward pass"), "ratio", around, goal=goal, met=met)
    decoding = tuple(one.decode_ms for one in ours)
    met = statistics.median(decoding) <= 3 if paper else None
    goal = "at most 3 ms" if paper else ""
    yield Comparison(name_of(image, "decode and scale"), "ms", decoding, goal=goal, met=met)
    yield compared("peak memory", "MB", "peak_mb")
    yield compared("anonymous memory", "MB", "anonymous_mb")
    yield from _touched(image, root)
    prices = read_prices()
    yield Comparison(
        name_of(image, "price of warm calls"),
        "USD per million",
        tuple(
            1e6 * prices.call_usd(MEMORY_MB_PER_VCPU, math.ceil(one.call_ms), image.architecture, through_gateway=False)
            for one in ours
        ),
        note=f"{MEMORY_MB_PER_VCPU} MB, x86, this machine's times; compute and request fee of {prices.as_of}",
    )
    yield Comparison(
        name_of(image, "image"),
        "MB",
        (_megabytes(root),),
        note="packages, handler, model, pictures; without AWS's base image",
    )


def _touched(image: Image, root: Path) -> Iterator[Comparison]:
    """What the build measured of the files that a start reads, if it did."""
    touched = strict_json.loads((root / "model" / "metadata.json").read_text(encoding="utf-8")).get("touched")
    if touched is None:
        return
    largest = ", ".join(f"{Path(one['file']).name} {one['bytes'] / 1e6:.1f} MB" for one in touched["largest"])
    yield Comparison(name_of(image, "files read until the first answer"), "files", (touched["files"],))
    read_mb = touched["bytes"] / 1e6
    yield Comparison(name_of(image, "read until the first answer"), "MB", (read_mb,), note=f"most: {largest}")
    yield Comparison(
        name_of(image, "chunks of 512 KiB read"),
        "chunks",
        (touched["chunks"],),
        note="Lambda fetches an image by such chunks: pages of libraries, files read whole, small files packed",
    )


def _start_bar(*, paper: bool, mobile: bool, best: bool) -> float | None:
    if paper:
        return 0.3 if mobile else 0.4
    return 0.12 if best else None


def name_of(image: Image, quantity: str) -> str:
    """Return how a comparison of an engine is called, by which the table finds it again."""
    engine = "" if image.engine != PAPER_ENGINE else " on TensorFlow"
    return f"{image.display_name}{engine}: {quantity}"


def _built(model: str, engine: str) -> Path:
    progress(f"image of {model} on {engine}")
    arguments = {"RECORD": PAPER_MODELS[model].build_record(model), "ENGINE": engine, "WEIGHTS": "random"}
    store = DirectoryImageStore()
    record = build(BuildRequest(FUNCTION, FUNCTION / "Dockerfile", arguments, PLATFORM), store)
    return store.content(record.id) / "root"


def _build_stage() -> Path:
    """The folder of the build stage, which has Keras and all of TensorFlow."""
    steps = (DirectoryImageStore().directory / "steps").iterdir()
    return next(step / "root" for step in steps if (step / "root" / PACKAGES / "keras").is_dir())


def _environment(base: Path, root: Path, variables: Mapping[str, str], warm_calls: int = 1) -> Environment:
    """Start one environment on the last core and have it answer."""
    core = max(os.sched_getaffinity(0))
    before = time.monotonic()
    done = subprocess.run(
        ["taskset", "--cpu-list", str(core), str(base), "-c", ENVIRONMENT, str(warm_calls)],
        cwd=root,
        env={
            "PATH": os.environ["PATH"],
            "LAMBDA_TASK_ROOT": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB_PER_VCPU),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{root} did not answer:\n{done.stderr[-2000:]}")
    said: dict[str, Any] = strict_json.loads(done.stdout)
    call, forward, decode = (statistics.median(values) for values in zip(*said["calls"], strict=True))
    start_ms = (said["answered"] - before) * 1000
    first: dict[str, float] = said["first"]
    return Environment(
        start_ms=start_ms,
        phases_ms={"spawn_ms": start_ms - sum(first.values()), **first},
        call_ms=call,
        forward_ms=forward,
        decode_ms=decode,
        peak_mb=said["memory"]["peak"],
        anonymous_mb=said["memory"]["anonymous"],
    )


def _megabytes(root: Path) -> float:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


if __name__ == "__main__":
    hand_over("engines", "Each engine next to a plain Keras handler on one core, in turn.", measure)
