"""KvasirTier: what vLLM's tiering asks of a tier below its CPU region."""

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vllm.platforms import current_platform
from vllm.v1.kv_offload.base import LookupResult, OffloadKey, ReqContext, RequestOffloadingContext
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager

from kvasir_vllm.facts import ENGINE, VERSION, fingerprint, served_name, unsuited
from kvasir_vllm.link import Link
from kvasir_vllm.rows import Rows
from kvasir_vllm.slots import HostSlots
from kvasir_vllm.staging import Prompt, Stager
from kvasir_vllm.steps import Load, Save

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

log = logging.getLogger("vllm.kvasir")

# How long a store waits for slots of the agent's pool; its rows are pinned so long.
_STORE_SECONDS = 1.0
# A request that is over may have copies under way.
_REMEMBERED = 512
# A key is a block's hash and the number of its KV group.
_GROUP_BYTES = 4


@dataclass
class Offloaded(Prompt):
    """A request, and where in it vLLM's hashes are."""

    at: dict[bytes, int] = field(default_factory=dict)
    loading: int = 0

    def index(self, key: OffloadKey) -> int | None:
        hashes = self.request.block_hashes
        for i in range(len(self.at), len(hashes)):
            self.at[bytes(hashes[i])] = i
        return self.at.get(bytes(key[:-_GROUP_BYTES]))


@dataclass
class Job:
    """Copies between rows and slots; the work is a Load or Saves."""

    number: int
    request: str
    work: Load | list[Save]


class KvasirTier(SecondaryTierManager):
    """Blocks of the region go to the agent's tiers and come back from them. What
    a request asks for is staged as a whole, at its first question; it hits as far
    as that got, so a block that is damaged or nowhere was never promised.

    The scheduler's thread calls all methods; copies have two threads."""

    def __init__(self, *, socket: str, **base: Any) -> None:
        super().__init__(**base)
        self._socket = socket
        self._link: Link | None = None  # None: not of use with this engine
        self._prompts: dict[str, Offloaded] = {}
        self._over: OrderedDict[str, Offloaded] = OrderedDict()
        self._lock = threading.Condition()  # guards the two below
        self._open = 0  # jobs
        self._ended: list[tuple[Job, bool]] = []

    def attach(self, c: "VllmConfig", kv: "KVCacheConfig") -> None:
        """Called once, by the connector."""
        reason = self._unsuited(c, kv)
        if reason:
            log.warning("Kvasir's tiers are not used: %s", reason)
            return
        spec = self._offloading_spec
        self._rows = Rows(self._primary_kv_view)
        parallel = c.parallel_config
        layout = {
            # Where a worker's pages are in a row, and what they look like, is up
            # to vLLM's version and the attention it chose.
            "fingerprint": fingerprint(c, ["rows", ENGINE, current_platform.get_device_name(), str(c.attention_config), parallel.world_size, parallel.tensor_parallel_size]),
            "dtype": str(c.model_config.dtype),
            "layers": len(kv.kv_cache_groups[0].layer_names),
            "block_size": spec.tokens_per_block[0],
            "block_bytes": self._rows.block_bytes,
        }
        self._link = Link(self._socket, {"role": "worker", "engine": ENGINE, "model": served_name(c), "layout": layout})
        self._stager = Stager(self._link, layout["block_size"])
        # Room for what two steps fill.
        stock = 2 * (c.scheduler_config.max_num_batched_tokens // layout["block_size"] + c.scheduler_config.max_num_seqs)
        self._slots = HostSlots(self._link, stock)
        self._loads: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stores: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(jobs,), name=name, daemon=True)
            for name, jobs in (("kvasir-load", self._loads), ("kvasir-store", self._stores))
        ]
        for t in self._threads:
            t.start()
        self._link.start(self._up, self._down, self._heard)

    def _unsuited(self, c: "VllmConfig", kv: "KVCacheConfig") -> str:
        if reason := unsuited(c, kv):
            return reason
        if VERSION < (0, 32):
            # 0.26 does; where between them it was mended is not known.
            return f"the offloading of {ENGINE} ends the engine when a client leaves while its blocks are looked up; use KvasirConnector"
        spec = self._offloading_spec
        if spec.blocks_per_chunk != 1:
            return "set blocks_per_chunk to 1, so that the gateway's blocks and the engine's are the same"
        if spec.tokens_per_hash != spec.tokens_per_block[0]:
            return f"the engine hashes {spec.tokens_per_hash} tokens at a time, its blocks have {spec.tokens_per_block[0]}"
        return ""

    # What the link's thread calls.

    def _up(self, hello: dict[str, Any], geometry: dict[str, Any] | None, fd: int) -> None:
        self._slots.up(hello["pool"], geometry, fd)
        self._stager.up(hello["model"])

    def _down(self) -> None:
        self._stager.down()
        self._slots.down()

    def _heard(self, message: dict[str, Any]) -> None:
        self._stager.heard(message)
        self._slots.heard(message)

    # What the scheduler calls.

    def track(self, request: "Request") -> None:
        if self._link is None or request.request_id in self._prompts:
            return
        if (root := self._stager.root(request)) is not None:
            self._prompts[request.request_id] = Offloaded(request, root)

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        return RequestOffloadingContext()

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        p = self._prompts.get(req_context.req_id)
        i = p.index(key) if p else None
        if p is None or i is None or i >= self._stager.limit(p.request):
            return LookupResult.MISS
        s = self._stager.ask(p, i)
        if s is None:
            return LookupResult.MISS
        if not s.answered.is_set():
            return LookupResult.RETRY
        return LookupResult.HIT if i - s.first < len(s.slots) else LookupResult.MISS

    def submit_load(self, job_metadata: Any) -> None:
        rid = job_metadata.req_context.req_id
        p = self._prompts.get(rid)
        s = p.staging if p else None
        at = [p.index(k) for k in job_metadata.keys] if p else []
        with self._lock:
            self._open += 1
        job = Job(job_metadata.job_id, rid, [])
        if p is None or s is None or any(i is None or not 0 <= i - s.first < len(s.slots) for i in at):
            self._end(job, False)
            return
        p.loading += 1
        job.work = Load(rid, s.pool, s.until, [s.slots[i - s.first] for i in at if i is not None], _rows_of(job_metadata))
        self._loads.put(job)

    def submit_store(self, job_metadata: Any) -> None:
        rid = job_metadata.req_context.req_id
        p = self._prompts.get(rid) or self._over.get(rid)
        saves: list[Save] = []
        if p is not None and self._stager.model is not None:
            for key, row in zip(job_metadata.keys, _rows_of(job_metadata), strict=True):
                if (i := p.index(key)) is not None:
                    self._stager.name(p, i + 1)
                    saves.append(Save(p.chain[i], p.chain[i - 1] if i > 0 else p.root, row))
        with self._lock:
            self._open += 1
        job = Job(job_metadata.job_id, rid, saves)
        if saves:
            self._stores.put(job)
        else:
            self._end(job, True)

    def get_finished_jobs(self) -> Iterable[JobResult]:
        with self._lock:
            ended, self._ended = self._ended, []
        for job, _ in ended:
            if isinstance(job.work, Load):
                self._loaded(job)
        return [JobResult(job.number, success) for job, success in ended]

    def _loaded(self, job: Job) -> None:
        p = self._prompts.get(job.request) or self._over.get(job.request)
        if p is None:
            return
        p.loading -= 1
        if p.loading == 0:
            self._stager.release(p)

    def on_request_finished(self, req_context: ReqContext) -> None:
        p = self._prompts.pop(req_context.req_id, None)
        if p is None:
            return
        if p.loading == 0:
            self._stager.release(p)
        self._over[req_context.req_id] = p
        while len(self._over) > _REMEMBERED:
            self._stager.release(self._over.popitem(last=False)[1])

    def drain_jobs(self) -> None:
        with self._lock:
            self._lock.wait_for(lambda: self._open == 0)

    def shutdown(self) -> None:
        if self._link is None:
            return
        for jobs in (self._loads, self._stores):
            jobs.put(None)
        for t in self._threads:
            t.join()
        self._link.close()
        del self._rows  # vLLM unmaps the region next

    # What the copying threads do.

    def _work(self, jobs: "queue.SimpleQueue[Job | None]") -> None:
        while (job := jobs.get()) is not None:
            success = False
            try:
                if isinstance(job.work, Load):
                    success = self._slots.load(job.work, self._rows.load)
                else:
                    self._slots.save(job.work, self._rows.save, _STORE_SECONDS)
                    success = True
            except Exception:
                log.exception("blocks of %s could not be copied; the engine computes them if it needs them", job.request)
            self._end(job, success)

    def _end(self, job: Job, success: bool) -> None:
        with self._lock:
            self._open -= 1
            self._ended.append((job, success))
            self._lock.notify_all()


def _rows_of(job: Any) -> list[int]:
    return [int(i) for i in job.chunk_ids]
