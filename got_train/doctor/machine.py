"""What the machine has: system, device, Paddle, flags, extras that are missing, disk. Computes nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

import paddle

from got_train import __version__, compat
from got_train.cpu import settings

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "paddlenlp", "numpy", "numba", "tiktoken", "datasets")
FLAGS = (  # what changes results or speed on a GPU
    "FLAGS_cudnn_deterministic",
    "FLAGS_embedding_deterministic",
    "FLAGS_cudnn_exhaustive_search",
    "FLAGS_flash_attn_available",
    "FLAGS_flash_attn_version",
    "FLAGS_mem_efficient_attn_available",
    "FLAGS_use_autotune",
    "FLAGS_use_stride_kernel",
)
VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS")
LITTLE_DISK = 20 << 30  # bytes; three checkpoints of GOT with its optimizer take as much


def machine(folder: Path) -> dict[str, Any]:
    """All facts, as JSON has them; `folder` tells the disk."""
    device = paddle.get_device()
    return {
        "got_train": __version__,
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "missing extras": missing_extras(),
        "processor": processor(),
        "device": device,
        "gpu": gpu() if device.startswith("gpu") else None,
        "flags": {name: value for name in FLAGS if (value := compat.flag(name)) is not None},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "disk": {"folder": str(folder), "free GB": round(shutil.disk_usage(folder).free / 2**30, 1)},
    }


def processor() -> dict[str, Any]:
    text = _read("/proc/cpuinfo")
    name = re.search(r"model name\s*:\s*(.+)", text)
    total = re.search(r"MemTotal:\s*(\d+)", _read("/proc/meminfo"))
    return {
        "name": name[1] if name else platform.processor() or platform.machine(),
        "cores": settings.usable_cores(),
        "memory GB": round(int(total[1]) / 2**20, 1) if total else None,
        "bfloat16": settings.has_bfloat16(),
    }


def gpu() -> dict[str, Any]:
    properties = paddle.device.cuda.get_device_properties()
    capability = paddle.device.cuda.get_device_capability()
    return {
        "name": properties.name,
        "count": paddle.device.cuda.device_count(),
        "compute capability": ".".join(map(str, capability)),
        "memory GB": round(properties.total_memory / 2**30, 1),
        "CUDA of Paddle": str(paddle.version.cuda()),
        "cuDNN of Paddle": str(paddle.version.cudnn()),
        "driver": _driver(),
    }


def missing_extras() -> dict[str, list[str]]:
    """The packages of each extra that are not installed, where some are not."""
    try:
        requirements = importlib.metadata.requires("got_train") or []
    except importlib.metadata.PackageNotFoundError:  # a checkout that was never installed
        return {}
    missing: dict[str, list[str]] = {}
    for line in requirements:
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if extra and name and not _version(name[0]):
            missing.setdefault(extra[1], []).append(name[0])
    if "cpu" in missing and paddle.is_compiled_with_cuda():
        del missing["cpu"]
    return missing


def advice(facts: dict[str, Any]) -> list[str]:
    """What the user may want to change, as sentences."""
    sentences = []
    if paddle.is_compiled_with_cuda() and facts["gpu"] is None:
        sentences.append(
            "Paddle is built for GPUs and finds none; look at the driver and CUDA_VISIBLE_DEVICES"
        )
    if facts["gpu"]:
        capability = tuple(map(int, facts["gpu"]["compute capability"].split(".")))
        if capability < (8, 0):
            sentences.append("this GPU has neither bfloat16 nor flash attention; use float16")
        elif not compat.has_flash_attention():
            sentences.append("this build of Paddle has no flash attention; blocks are slower")
    if facts["disk"]["free GB"] * 2**30 < LITTLE_DISK:
        sentences.append(f"{facts['disk']['free GB']} GB of disk are free; a run of GOT keeps about 20")
    return sentences


def _driver() -> str | None:
    match = re.search(r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)", _read("/proc/driver/nvidia/version"))
    return match[1] if match else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
