"""The scheduler's half: has the agent stage what a prompt begins with, and says
which blocks are to be loaded and saved."""

import base64
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvasir_vllm.identity import extend_chain, root_hash
from kvasir_vllm.link import Link
from kvasir_vllm.steps import Load, Save, Step

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

log = logging.getLogger("vllm.kvasir")

# How long a step waits for an agent that has nothing to bring up, which answers
# within this time; for any other the request waits, but no step does.
_GLANCE_SECONDS = 0.002
# The agent gives up earlier than this. It is for one that hangs.
_PATIENCE_SECONDS = 7.0
# Of the time that slots are held, what is left for the copy at least.
_COPY_SECONDS = 20.0
# The agent takes no more in one message.
_MAX_BLOCKS = 1 << 16
# A request whose cached prefix shrinks again and again while it waits is let go.
_MAX_STAGINGS = 3


@dataclass
class Staging:
    """A question to the agent and its answer."""

    seq: int
    first: int  # block
    asked: float
    answered: threading.Event = field(default_factory=threading.Event)
    slots: list[int] = field(default_factory=list)
    held: int = 0
    until: float = 0.0
    pool: str = ""


@dataclass
class Tracked:
    """What is known of a request."""

    request: "Request"
    root: bytes
    chain: list[bytes] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)  # the engine's, in order
    staging: Staging | None = None
    stagings: int = 0
    first: int = 0  # block from which on external ones were last offered
    saved: int = 0  # blocks before it are in the agent's tiers, or on their way
    loading: bool = False


class SchedulerSide:
    def __init__(self, socket: str, engine: str, block_size: int) -> None:
        self._block_size = block_size
        self._model: str | None = None  # while connected
        self._tracked: dict[str, Tracked] = {}
        self._stagings: dict[str, Staging] = {}  # under way; the link's thread reads it
        self._loads: list[Load] = []
        self._asked = 0
        self._link = Link(socket, {"role": "scheduler", "engine": engine}, self._up, self._down, self._heard)

    # What the link's thread calls.

    def _up(self, hello: dict[str, Any], _geometry: dict[str, Any] | None, _fd: int) -> None:
        if hello["block_size"] != self._block_size:
            log.warning(
                "the Kvasir agent keeps blocks of %d tokens, this engine has %d: restart the agent",
                hello["block_size"],
                self._block_size,
            )
            return
        self._model = hello["model"]

    def _down(self) -> None:
        self._model = None

    def _heard(self, message: dict[str, Any]) -> None:
        answer = message.get("staged")
        staging = self._stagings.get(answer["id"]) if answer else None
        # Of two questions for one request, the first may be answered late.
        if staging is None or staging.seq != answer["seq"]:
            return
        staging.pool, staging.slots, staging.held = answer["pool"], answer["slots"], answer["held"]
        staging.until = staging.asked + answer["hold_ms"] / 1000
        staging.answered.set()

    # What the scheduler calls.

    def matched(self, request: "Request", computed: int) -> tuple[int | None, bool]:
        """How many tokens beyond those computed can be loaded; None: ask again."""
        t = self._track(request)
        if t is None:
            return 0, False
        size = self._block_size
        t.first, limit = computed // size, min((request.num_tokens - 1) // size, _MAX_BLOCKS)
        if request.skip_reading_prefix_cache or t.first >= limit:
            t.saved = max(t.saved, t.first)
            return 0, False
        if t.staging is not None and not self._of_use(t.staging, t.first):
            self._release(t)
        if t.staging is None and not self._stage(t, limit):
            t.saved = max(t.saved, t.first)
            return 0, False
        s = t.staging
        assert s is not None
        if not s.answered.is_set():
            if self._model is not None and time.monotonic() - s.asked < _PATIENCE_SECONDS:
                return None, False
            self._release(t)
            t.stagings = _MAX_STAGINGS
            return 0, False
        t.saved = max(t.saved, s.held)
        n = min(s.first + len(s.slots), limit) - t.first
        return (n * size, True) if n > 0 else (0, False)

    @staticmethod
    def _of_use(s: Staging, first: int) -> bool:
        """Blocks may be gone from the engine's cache that were there when the
        question was asked, and a hold may be about to end."""
        return first >= s.first and (not s.answered.is_set() or time.monotonic() < s.until - _COPY_SECONDS)

    def _stage(self, t: Tracked, limit: int) -> bool:
        if t.stagings >= _MAX_STAGINGS or self._model is None:
            return False
        self._name(t, limit)
        rid = t.request.request_id
        self._asked += 1
        s = Staging(seq=self._asked, first=t.first, asked=time.monotonic())
        self._stagings[rid] = s
        t.stagings += 1
        if not self._link.send(
            "stage", id=rid, seq=s.seq, first=t.first, root=_b64(t.root), hashes=_b64(b"".join(t.chain[:limit]))
        ):
            del self._stagings[rid]
            return False
        t.staging = s
        s.answered.wait(_GLANCE_SECONDS)
        return True

    def _release(self, t: Tracked) -> None:
        if t.staging is None:
            return
        rid = t.request.request_id
        t.staging = None
        self._stagings.pop(rid, None)
        self._link.send("release", id=rid)

    def allocated(self, request: "Request", blocks: "KVCacheBlocks", external: int) -> None:
        t = self._tracked.get(request.request_id)
        if t is None or t.loading:
            return
        if external == 0 or t.staging is None:
            self._release(t)
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
        if self._model is not None:
            self._name(t, end)
            for i in range(t.saved, min(end, len(t.blocks))):
                parent = t.chain[i - 1] if i > 0 else t.root
                step.saves.append(Save(hash=t.chain[i], parent=parent, block=t.blocks[i]))
        t.saved = end

    def received(self, output: "KVConnectorOutput") -> None:
        """Loads have ended, well or not."""
        for rid in output.finished_recving or ():
            if t := self._tracked.get(rid):
                t.loading = False
                self._release(t)
                if t.request.is_finished():
                    del self._tracked[rid]

    def finished(self, request: "Request") -> None:
        """A load under way keeps its slots until it has ended."""
        t = self._tracked.get(request.request_id)
        if t is not None and not t.loading:
            self._release(t)
            del self._tracked[request.request_id]

    def close(self) -> None:
        self._link.close()

    def _track(self, request: "Request") -> Tracked | None:
        """None for what is not kept: no agent, or KV that depends on more than
        tokens."""
        t = self._tracked.get(request.request_id)
        if t is not None or self._model is None:
            return t
        if request.pooling_params is not None or request.mm_features or request.prompt_embeds is not None:
            return None
        lora = request.lora_request.lora_name if request.lora_request else ""
        t = Tracked(request, root_hash(self._model, lora, request.cache_salt or "", self._block_size))
        self._tracked[request.request_id] = t
        return t

    def _name(self, t: Tracked, blocks: int) -> None:
        at, size = len(t.chain), self._block_size
        if blocks > at:
            extend_chain(t.chain, t.root, t.request.all_token_ids[at * size : blocks * size], size)


def _b64(b: bytes) -> str:
    return base64.b64encode(b).decode()
