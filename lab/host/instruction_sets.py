"""Which instruction sets this host has, and how engines are kept to those of Lambda's hosts."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from core.configuration import InstructionSets

# What a forward pass is faster by: names of the kernel's flags, x86 and arm64.
TELLING: Final = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
# oneDNN is inside TensorFlow and OpenVINO. ONNX Runtime (MLAS) and LiteRT (XNNPACK) have no such switch.
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
AVX2_VARIABLES: Final = {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def host_isa() -> tuple[str, ...]:
    """Return the instruction sets of this host that matter to a forward pass; () where the kernel does not say."""
    try:
        return told_by(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        return ()


def told_by(cpuinfo: str) -> tuple[str, ...]:
    """Read them from the text of /proc/cpuinfo."""
    flags = next((line for line in cpuinfo.splitlines() if line.lower().startswith(("flags", "features"))), "")
    return tuple(name for name in TELLING if name in flags.partition(":")[2].split())


def cap_in_force(setting: InstructionSets) -> str:
    """Return what engines are capped at where they can be: "avx2", or "" for nothing."""
    return "avx2" if setting == "avx2" and platform.machine() in {"x86_64", "AMD64"} else ""
