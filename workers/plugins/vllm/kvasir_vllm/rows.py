"""vLLM's own offload region as rows of bytes: a row is a block as all workers
have stored it."""

import torch


class Rows:
    def __init__(self, region: memoryview) -> None:
        count, self.block_bytes = region.shape
        self._rows = torch.frombuffer(region.cast("B"), dtype=torch.uint8).view(count, self.block_bytes)

    def save(self, row: int, slot: torch.Tensor) -> None:
        slot.copy_(self._rows[row])

    def load(self, slot: torch.Tensor, row: int) -> None:
        self._rows[row].copy_(slot)
