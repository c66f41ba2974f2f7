"""Which device the network runs on, and in which number format."""

from __future__ import annotations

import torch

from model.errors import ModelError


def pick_device(wanted: str) -> str:
    """`auto` is a GPU when there is one, else the CPU; raises `ModelError` for a GPU that is not there."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        index = int(wanted.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise ModelError(f"device {wanted} is asked for, but torch sees {torch.cuda.device_count()} GPUs: use auto")
    return wanted


def has_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 is native here: three times as fast where it is, ten times slower where it is emulated."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether a device has no memory left; torch has no class of its own for that on a CPU."""
    return isinstance(exc, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(exc)
