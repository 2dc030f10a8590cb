"""The engine's side of the agent's host pool: slots that were granted to fill,
and slots that were staged to be read."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from kvasir_vllm.link import Link
from kvasir_vllm.pool import Pool
from kvasir_vllm.staging import b64
from kvasir_vllm.steps import Load, Save

log = logging.getLogger("vllm.kvasir")

# How often a pool without room is asked for slots again.
_ASK_SECONDS = 0.05
# How long a load waits for the connection that its slots are of.
_POOL_SECONDS = 2.0
# Dropped blocks are told of this often.
_TELL_SECONDS = 60.0


class HostSlots:
    """up, down and heard are called by the link's thread, save by one thread and
    load by one."""

    def __init__(self, link: Link, target: int) -> None:
        self._link, self._target = link, target
        # Guards all below. Held during copies to slots, so that a connection's
        # end waits for them.
        self._lock = threading.Lock()
        self._pool: Pool | None = None  # while connected
        self._pools: deque[Pool] = deque(maxlen=2)  # that loads may still name
        self._stock: deque[int] = deque()  # slots granted to us
        self._granted = threading.Condition(self._lock)
        self._asking = False
        self._ask_after = 0.0
        self._dropped, self._told = 0, 0.0

    def up(self, pool: str, geometry: dict[str, Any] | None, fd: int) -> None:
        if geometry is None:
            raise ValueError("the agent shared no memory")
        opened = Pool(pool, geometry, fd)
        with self._lock:
            self._pool = opened
            self._pools.append(opened)
            self._stock.clear()
            self._asking, self._ask_after = False, 0.0
        self._restock()

    def down(self) -> None:
        with self._lock:
            self._pool = None
            self._stock.clear()
            self._granted.notify_all()

    def heard(self, message: dict[str, Any]) -> None:
        if (granted := message.get("granted")) is not None:
            with self._lock:
                self._asking = False
                self._stock.extend(granted["slots"])
                if not granted["slots"]:
                    self._ask_after = time.monotonic() + _ASK_SECONDS
                self._granted.notify_all()

    def _restock(self) -> None:
        with self._lock:
            missing = self._target - len(self._stock)
            if self._pool is None or self._asking or 2 * missing < self._target or time.monotonic() < self._ask_after:
                return
            self._asking = True
        self._link.send("reserve", count=missing)

    def save(self, saves: list[Save], copy: Callable[[int, torch.Tensor], None], patience: float = 0.0) -> None:
        """Copies blocks to slots and commits them. What finds no slot in time is
        dropped."""
        until = time.monotonic() + patience
        rest = self._fill(saves, copy)
        while rest and (now := time.monotonic()) < until:
            self._restock()
            with self._lock:
                if self._pool is not None and not self._stock:
                    self._granted.wait(min(until - now, _ASK_SECONDS))
                if self._pool is None:
                    break
            rest = self._fill(rest, copy)
        self._drop(len(rest))
        self._restock()

    def _fill(self, saves: list[Save], copy: Callable[[int, torch.Tensor], None]) -> list[Save]:
        """Returns those that found no slot."""
        slots: list[int] = []
        with self._lock:
            for save in saves:
                if self._pool is None or not self._stock:
                    break
                slot = self._stock.popleft()
                copy(save.block, self._pool.slots[slot])
                slots.append(slot)
            if slots:  # under the lock: the slots are those of this connection
                done = saves[: len(slots)]
                self._link.send(
                    "commit",
                    slots=slots,
                    hashes=b64(b"".join(s.hash for s in done)),
                    parents=b64(b"".join(s.parent for s in done)),
                )
        return saves[len(slots) :]

    def _drop(self, n: int) -> None:
        if self._pool is None:
            return
        self._dropped += n
        now = time.monotonic()
        if self._dropped and now - self._told > _TELL_SECONDS:
            log.warning("%d blocks were not saved: the Kvasir agent's cpu tier has no room, or is slow", self._dropped)
            self._dropped, self._told = 0, now

    def load(self, load: Load, copy: Callable[[torch.Tensor, int], None]) -> bool:
        """Copies staged slots to the engine's blocks. False if they may have become
        others' meanwhile."""
        began = time.monotonic()
        pool = self._pool_of(load)
        if pool is None:
            return False
        for slot, block in zip(load.slots, load.blocks, strict=True):
            if time.monotonic() > load.until:
                return False
            copy(pool.slots[slot], block)
        ended = time.monotonic()
        self._link.send("loaded", count=len(load.blocks), micros=int((ended - began) * 1e6))
        return ended < load.until

    def _pool_of(self, load: Load) -> Pool | None:
        """After an agent's start the scheduler's half may be a moment ahead."""
        until = time.monotonic() + _POOL_SECONDS
        while True:
            with self._lock:
                pool = next((p for p in self._pools if p.name == load.pool), None)
            if pool is not None or time.monotonic() > until:
                return pool
            time.sleep(0.01)
