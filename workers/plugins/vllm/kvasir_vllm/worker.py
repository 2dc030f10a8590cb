"""The workers' half: copies blocks between the engine's pages and the agent's
host pool."""

import base64
import logging
import queue
import threading
import time
from collections import deque
from typing import Any

from kvasir_vllm.link import Link
from kvasir_vllm.pages import Pages
from kvasir_vllm.pool import Pool
from kvasir_vllm.steps import Load, Save

log = logging.getLogger("vllm.kvasir")

# How often a pool without room is asked for slots again.
_ASK_SECONDS = 0.05
# How long a load waits for the connection that its slots are of.
_POOL_SECONDS = 2.0
# Dropped blocks are told of this often.
_TELL_SECONDS = 60.0


class WorkerSide:
    """Saves are made in the step that fills the blocks, right after it: later the
    engine may give the pages to others. They go to slots that were granted
    before, so no step waits for the agent; what finds none is dropped. Loads are
    made by a thread."""

    def __init__(self, socket: str, hello: dict[str, Any], pages: Pages, stock: int) -> None:
        self._pages, self._target = pages, stock
        # Guards all below. Held during copies to slots, so that a connection's
        # end waits for them.
        self._lock = threading.Lock()
        self._pool: Pool | None = None  # while connected
        self._pools: deque[Pool] = deque(maxlen=2)  # that loads may still name
        self._stock: deque[int] = deque()  # slots granted to us
        self._asking = False
        self._ask_after = 0.0
        self._finished: set[str] = set()
        self._bad_blocks: set[int] = set()
        self._dropped, self._told = 0, 0.0
        self._queue: queue.SimpleQueue[Load | None] = queue.SimpleQueue()
        threading.Thread(target=self._load_all, name="kvasir-load", daemon=True).start()
        self._link = Link(socket, {"role": "worker", **hello}, self._up, self._down, self._heard)

    # What the link's thread calls.

    def _up(self, hello: dict[str, Any], geometry: dict[str, Any] | None, fd: int) -> None:
        if geometry is None:
            raise ValueError("the agent shared no memory")
        pool = Pool(hello["pool"], geometry, fd)
        with self._lock:
            self._pool = pool
            self._pools.append(pool)
            self._stock.clear()
            self._asking, self._ask_after = False, 0.0
        self._restock()

    def _down(self) -> None:
        with self._lock:
            self._pool = None
            self._stock.clear()

    def _heard(self, message: dict[str, Any]) -> None:
        if (granted := message.get("granted")) is not None:
            with self._lock:
                self._asking = False
                self._stock.extend(granted["slots"])
                if not granted["slots"]:
                    self._ask_after = time.monotonic() + _ASK_SECONDS

    def _restock(self) -> None:
        with self._lock:
            missing = self._target - len(self._stock)
            if self._pool is None or self._asking or 2 * missing < self._target or time.monotonic() < self._ask_after:
                return
            self._asking = True
        self._link.send("reserve", count=missing)

    # What the model runner calls.

    def load(self, loads: list[Load]) -> None:
        for load in loads:
            self._queue.put(load)

    def save(self, saves: list[Save]) -> None:
        done: list[Save] = []
        slots: list[int] = []
        with self._lock:
            pool = self._pool
            for save in saves:
                if pool is None or not self._stock:
                    break
                slot = self._stock.popleft()
                self._pages.save(save.block, pool.slots[slot])
                done.append(save)
                slots.append(slot)
            if done:  # under the lock: the slots are those of this connection
                self._link.send(
                    "commit",
                    slots=slots,
                    hashes=_b64(b"".join(s.hash for s in done)),
                    parents=_b64(b"".join(s.parent for s in done)),
                )
        self._tell(len(saves) - len(done) if pool is not None else 0)
        self._restock()

    def _tell(self, dropped: int) -> None:
        self._dropped += dropped
        now = time.monotonic()
        if self._dropped and now - self._told > _TELL_SECONDS:
            log.warning("%d blocks were not saved: the Kvasir agent's cpu tier has no room, or is slow", self._dropped)
            self._dropped, self._told = 0, now

    def ended(self) -> set[str]:
        with self._lock:
            finished, self._finished = self._finished, set()
            return finished

    def bad_blocks(self) -> set[int]:
        with self._lock:
            bad, self._bad_blocks = self._bad_blocks, set()
            return bad

    def close(self) -> None:
        self._queue.put(None)
        self._link.close()

    def _load_all(self) -> None:
        while (load := self._queue.get()) is not None:
            bad: list[int] = load.blocks
            began = time.monotonic()
            try:
                if self._copy(load):
                    bad = []
                    self._link.send("loaded", count=len(load.blocks), micros=int((time.monotonic() - began) * 1e6))
            except Exception:
                log.exception("blocks of %s could not be loaded; the engine computes them", load.request)
            with self._lock:
                self._bad_blocks.update(bad)
                self._finished.add(load.request)

    def _copy(self, load: Load) -> bool:
        """False if the slots may have become others' meanwhile."""
        pool = self._pool_of(load)
        if pool is None:
            return False
        for slot, block in zip(load.slots, load.blocks, strict=True):
            if time.monotonic() > load.until:
                return False
            self._pages.load(pool.slots[slot], block)
        return time.monotonic() < load.until

    def _pool_of(self, load: Load) -> Pool | None:
        """After an agent's start the scheduler's half may be a moment ahead."""
        until = time.monotonic() + _POOL_SECONDS
        while True:
            with self._lock:
                pool = next((p for p in self._pools if p.name == load.pool), None)
            if pool is not None or time.monotonic() > until:
                return pool
            time.sleep(0.01)


def _b64(b: bytes) -> str:
    return base64.b64encode(b).decode()
