"""The workers' half: copies blocks between the engine's pages and the agent's
host pool."""

import logging
import queue
import threading
from typing import Any

from kvasir_vllm.link import Link
from kvasir_vllm.pages import Pages
from kvasir_vllm.slots import HostSlots
from kvasir_vllm.steps import Load, Save

log = logging.getLogger("vllm.kvasir")


class WorkerSide:
    """Saves are made in the step that fills the blocks, right after it: later the
    engine may give the pages to others. They go to slots that were granted
    before, so no step waits for the agent; what finds none is dropped. Loads are
    made by a thread."""

    def __init__(self, socket: str, hello: dict[str, Any], pages: Pages, stock: int) -> None:
        self._pages = pages
        self._lock = threading.Lock()  # guards the two below
        self._finished: set[str] = set()
        self._bad_blocks: set[int] = set()
        self._queue: queue.SimpleQueue[Load | None] = queue.SimpleQueue()
        self._link = Link(socket, {"role": "worker", **hello})
        self._slots = HostSlots(self._link, stock)
        threading.Thread(target=self._load_all, name="kvasir-load", daemon=True).start()
        self._link.start(lambda hello, *memory: self._slots.up(hello["pool"], *memory), self._slots.down, self._slots.heard)

    def load(self, loads: list[Load]) -> None:
        for load in loads:
            self._queue.put(load)

    def save(self, saves: list[Save]) -> None:
        self._slots.save(saves, self._pages.save)

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
            try:
                if self._slots.load(load, self._pages.load):
                    bad = []
            except Exception:
                log.exception("blocks of %s could not be loaded; the engine computes them", load.request)
            with self._lock:
                self._bad_blocks.update(bad)
                self._finished.add(load.request)
