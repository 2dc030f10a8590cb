"""The scheduler's half: has the agent stage what a prompt begins with, and says
which blocks are to be loaded and saved."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvasir_vllm.link import Link
from kvasir_vllm.staging import Prompt, Stager
from kvasir_vllm.steps import Load, Save, Step

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

log = logging.getLogger("vllm.kvasir")


@dataclass
class Tracked(Prompt):
    """What is known of a request."""

    blocks: list[int] = field(default_factory=list)  # the engine's, in order
    first: int = 0  # block from which on external ones were last offered
    saved: int = 0  # blocks before it are in the agent's tiers, or on their way
    loading: bool = False


class SchedulerSide:
    def __init__(self, socket: str, engine: str, block_size: int) -> None:
        self._block_size = block_size
        self._tracked: dict[str, Tracked] = {}
        self._loads: list[Load] = []
        self._link = Link(socket, {"role": "scheduler", "engine": engine})
        self._stager = Stager(self._link, block_size)
        self._link.start(self._up, self._stager.down, self._stager.heard)

    def _up(self, hello: dict[str, Any], _geometry: dict[str, Any] | None, _fd: int) -> None:
        if hello["block_size"] != self._block_size:
            log.warning(
                "the Kvasir agent keeps blocks of %d tokens, this engine has %d: restart the agent",
                hello["block_size"],
                self._block_size,
            )
            return
        self._stager.up(hello["model"])

    def matched(self, request: "Request", computed: int) -> tuple[int | None, bool]:
        """How many tokens beyond those computed can be loaded; None: ask again."""
        t = self._track(request)
        if t is None:
            return 0, False
        t.first, limit = computed // self._block_size, self._stager.limit(request)
        s = None if request.skip_reading_prefix_cache or t.first >= limit else self._stager.ask(t, t.first)
        if s is None:
            t.saved = max(t.saved, t.first)
            return 0, False
        if not s.answered.is_set():
            return None, False
        t.saved = max(t.saved, s.held)
        n = min(s.first + len(s.slots), limit) - t.first
        return (n * self._block_size, True) if n > 0 else (0, False)

    def allocated(self, request: "Request", blocks: "KVCacheBlocks", external: int) -> None:
        t = self._tracked.get(request.request_id)
        if t is None or t.loading:
            return
        if external == 0 or t.staging is None:
            self._stager.release(t)
            return
        s, ids = t.staging, blocks.get_block_ids()[0]
        n = external // self._block_size
        self._loads.append(
            Load(
                request=request.request_id,
                pool=s.pool,
                until=s.until,
                slots=s.slots[t.first - s.first :][:n],
                blocks=ids[t.first : t.first + n],
            )
        )
        t.loading = True

    def step(self, output: "SchedulerOutput") -> Step:
        step = Step(loads=self._loads)
        self._loads = []
        for new in output.scheduled_new_reqs:
            if t := self._tracked.get(new.req_id):
                t.blocks = list(new.block_ids[0])
                self._save(step, t, new.num_computed_tokens + output.num_scheduled_tokens[new.req_id])
        cached = output.scheduled_cached_reqs
        for i, rid in enumerate(cached.req_ids):
            t = self._tracked.get(rid)
            if t is None:
                continue
            if (ids := cached.new_block_ids[i]) is not None:
                t.blocks = list(ids[0]) if rid in cached.resumed_req_ids else t.blocks + list(ids[0])
            self._save(step, t, cached.num_computed_tokens[i] + output.num_scheduled_tokens[rid])
        return step

    def _save(self, step: Step, t: Tracked, computed: int) -> None:
        """The blocks that are full after this step and whose tokens are known:
        with asynchronous scheduling and speculation the step may go beyond them."""
        end = min(computed, t.request.num_tokens) // self._block_size
        if end <= t.saved:
            return
        if self._stager.model is not None:
            self._stager.name(t, end)
            for i in range(t.saved, min(end, len(t.blocks))):
                parent = t.chain[i - 1] if i > 0 else t.root
                step.saves.append(Save(hash=t.chain[i], parent=parent, block=t.blocks[i]))
        t.saved = end

    def received(self, output: "KVConnectorOutput") -> None:
        """Loads have ended, well or not."""
        for rid in output.finished_recving or ():
            if t := self._tracked.get(rid):
                t.loading = False
                self._stager.release(t)
                if t.request.is_finished():
                    del self._tracked[rid]

    def finished(self, request: "Request") -> None:
        """A load under way keeps its slots until it has ended."""
        t = self._tracked.get(request.request_id)
        if t is not None and not t.loading:
            self._stager.release(t)
            del self._tracked[request.request_id]

    def close(self) -> None:
        self._link.close()

    def _track(self, request: "Request") -> Tracked | None:
        t = self._tracked.get(request.request_id)
        if t is None and (root := self._stager.root(request)) is not None:
            t = self._tracked[request.request_id] = Tracked(request, root)
        return t
