"""The agent's host pool, as this process sees it."""

import mmap
import os
from typing import Any

import torch


class Pool:
    """Slots of equal size in memory that agent and engine both map.

    The mapping outlives the agent: what it held stays readable and is nobody
    else's any more, so a copy that an agent's death interrupts is still right.
    """

    def __init__(self, name: str, geometry: dict[str, Any], fd: int) -> None:
        self.name = name
        size, slots, stride = geometry["bytes"], geometry["slots"], geometry["stride"]
        try:
            memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        # The tensor keeps the mapping alive.
        whole = torch.frombuffer(memory, dtype=torch.uint8)
        self.slots = whole[: slots * stride].view(slots, stride)[:, : geometry["block_bytes"]]
