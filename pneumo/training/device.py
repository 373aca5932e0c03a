"""Chooses the device and the precision of a training or a prediction on this machine."""

import gc
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch

from pneumo.errors import InputError, TooLittleMemoryError

Result = TypeVar("Result")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")  # as the CPU says it, and MPS
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class Accelerator:
    """A torch device and the precision that models compute in on it."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def chosen(cls, device: str, precision: str) -> "Accelerator":
        """From a name of DEVICES and one of DTYPES, or `auto`. InputError: unknown, or not available."""
        for name, value, known in (("device", device, DEVICES), ("precision", precision, DTYPES)):
            if value not in ("auto", *known):
                raise InputError(f"fit.{name} must be one of auto, {', '.join(known)}, got {value!r}")
        here = available_devices()
        if device not in ("auto", *here):
            raise InputError(f"fit.device={device}, but torch finds only {', '.join(here)} on this machine")
        kind = here[0] if device == "auto" else device
        number = int(os.environ.get("LOCAL_RANK", "0"))  # torchrun's: a GPU for every process
        if kind == "cuda" and number >= torch.cuda.device_count():
            raise InputError(f"Process {number + 1} has no GPU: {torch.cuda.device_count()} are here")
        chosen = torch.device(kind, number) if kind == "cuda" else torch.device(kind)
        return cls(chosen, DTYPES[precision] if precision != "auto" else fastest_dtype(chosen))

    @property
    def name(self) -> str:
        """What the device is called: cpu, mps, or the name of a GPU."""
        kind = self.device.type
        return torch.cuda.get_device_name(self.device) if kind == "cuda" else kind

    def with_size_that_fits(self, work: Callable[[int], Result], size: int) -> Result:
        """What `work` returns with `size` images at once, or with half of them and so on until the memory
        holds them. TooLittleMemoryError: it does not hold a single one."""
        while True:
            try:
                return work(size)
            except (RuntimeError, MemoryError) as error:
                self.refuse_other_errors(size, error)
            size = -(-size // 2)
            self.forget()

    def refuse_other_errors(self, images: int, error: Exception) -> None:
        """Raises the error again if it is of another kind than too little memory. TooLittleMemoryError: even
        a single image did not fit."""
        if not is_out_of_memory(error):
            raise error
        if images == 1:
            raise TooLittleMemoryError(
                f"Out of memory with a single image on {self.device}: a smaller model or a "
                "smaller data.image_side_px is needed, or a larger device"
            ) from error

    def forget(self) -> None:
        """Returns memory that is not used any more to the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        scaler.scale(torch.zeros(1, device=self.device))  # else it has no scale before a first batch
        return scaler


def available_devices() -> list[str]:
    """Names of the devices of this machine, the fastest first."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, there in found.items() if there]


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the machine multiplies it natively, float16 on older GPUs, float32 elsewhere."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16"):
        return torch.bfloat16
    return torch.float32


def set_deterministic(wanted: bool) -> None:
    """Sets whether every operation must give the same bits each time, even where that is slower; on one
    machine with one version of torch. An operation that cannot raises RuntimeError when it is called."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.benchmark = False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine has too little memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    )
