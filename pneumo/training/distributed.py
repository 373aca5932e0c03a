"""The processes of one training: each takes its share of every window and of every prediction.

Gradients are summed here once a window. DistributedDataParallel's hooks would wait for ever where a short
window leaves a process without a batch, or relabelling leaves a batch without a label."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pneumo.errors import PeerError

PATIENCE = timedelta(hours=6)  # the first may have a store to build, and plots to draw
Item = TypeVar("Item")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a training, seen from the one of this `rank`. All of them must call each method, in
    the same order; for a single process they do nothing. PeerError: another process has ended."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def shard(self, items: Any) -> Any:
        """This process' share of a list or an array."""
        return items[self.rank :: self.count]

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sums these tensors over all processes, in place and in one message."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with peer_errors():
            dist.all_reduce(flat)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, total in zip(tensors, torch.split(flat, sizes), strict=True):
            tensor.copy_(total.view_as(tensor))

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Sets these tensors to the first process' values, in place."""
        if self.count > 1:
            with peer_errors():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def broadcast_object(self, value: Any) -> Any:
        """The first process' value; the others wait for it."""
        if self.count == 1:
            return value
        values = [value]
        with peer_errors():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def broadcast_state(self, state: Mapping[str, Any]) -> Any:
        """The first process' state, with its tensors on the CPU: pickled as they are, those of all processes
        would lie on the first one's GPU."""
        if self.count == 1:
            return state
        file = io.BytesIO()
        if self.is_first:
            torch.save(state, file)
        received = io.BytesIO(self.broadcast_object(file.getvalue()))
        return torch.load(received, map_location="cpu", weights_only=True)

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process passes the block alone, then the others do."""
        if not self.is_first:
            self.broadcast_object(None)
        yield
        if self.is_first:
            self.broadcast_object(None)

    def all_gather(self, value: Item) -> list[Item]:
        """The values of all processes, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with peer_errors():
            dist.all_gather_object(values, value)
        return values


SINGLE_PROCESS = ProcessGroup()


def process_count() -> int:
    """How many processes torchrun has started for this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Joins the processes that torchrun started, and leaves them at the end; or this one alone."""
    count = process_count()
    if count == 1:
        yield SINGLE_PROCESS
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield ProcessGroup(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


@contextmanager
def peer_errors() -> Iterator[None]:
    """Raises PeerError where torch reports that another process does not answer any more."""
    try:
        yield
    except RuntimeError as error:
        raise PeerError("Another process of this training has ended; its own message says why.") from error
