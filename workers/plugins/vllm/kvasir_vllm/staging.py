"""Has the agent bring to its host pool what prompts begin with."""

import base64
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvasir_vllm.identity import extend_chain, root_hash
from kvasir_vllm.link import Link

if TYPE_CHECKING:
    from vllm.v1.request import Request

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
class Prompt:
    """A request, the names of its blocks, and what was staged for it."""

    request: "Request"
    root: bytes
    chain: list[bytes] = field(default_factory=list)
    staging: Staging | None = None
    stagings: int = 0


class Stager:
    """One engine's questions. The link's thread calls up, down and heard, the
    scheduler's all else."""

    def __init__(self, link: Link, block_size: int) -> None:
        self._link, self._block_size = link, block_size
        self.model: str | None = None  # that names start from, while connected
        self._open: dict[str, Staging] = {}  # by request; the link's thread reads it
        self._asked = 0

    def up(self, model: str) -> None:
        self.model = model

    def down(self) -> None:
        self.model = None

    def heard(self, message: dict[str, Any]) -> None:
        answer = message.get("staged")
        staging = self._open.get(answer["id"]) if answer else None
        # Of two questions for one request, the first may be answered late.
        if staging is None or staging.seq != answer["seq"]:
            return
        staging.pool, staging.slots, staging.held = answer["pool"], answer["slots"], answer["held"]
        staging.until = staging.asked + answer["hold_ms"] / 1000
        staging.answered.set()

    def root(self, request: "Request") -> bytes | None:
        """Where a request's names start; None for what is not kept: no agent, or
        KV that depends on more than tokens."""
        if self.model is None or request.pooling_params is not None or request.mm_features or request.prompt_embeds is not None:
            return None
        lora = request.lora_request.lora_name if request.lora_request else ""
        return root_hash(self.model, lora, request.cache_salt or "", self._block_size)

    def name(self, p: Prompt, blocks: int) -> None:
        """Makes the names of so many leading blocks."""
        at, size = len(p.chain), self._block_size
        if blocks > at:
            extend_chain(p.chain, p.root, p.request.all_token_ids[at * size : blocks * size], size)

    def limit(self, request: "Request") -> int:
        """How many blocks may come from elsewhere: one token is left to compute."""
        return min((request.num_tokens - 1) // self._block_size, _MAX_BLOCKS)

    def ask(self, p: Prompt, first: int) -> Staging | None:
        """What is staged from a block on, or is being staged; None: nothing."""
        if p.staging is not None and not _of_use(p.staging, first):
            self.release(p)
        if p.staging is None and not self._stage(p, first):
            return None
        s = p.staging
        assert s is not None
        if not s.answered.is_set() and (self.model is None or time.monotonic() - s.asked > _PATIENCE_SECONDS):
            self.give_up(p)
            return None
        return s

    def _stage(self, p: Prompt, first: int) -> bool:
        if p.stagings >= _MAX_STAGINGS or self.model is None:
            return False
        limit = self.limit(p.request)
        self.name(p, limit)
        rid = p.request.request_id
        self._asked += 1
        s = Staging(seq=self._asked, first=first, asked=time.monotonic())
        self._open[rid] = s
        p.stagings += 1
        if not self._link.send("stage", id=rid, seq=s.seq, first=first, root=b64(p.root), hashes=b64(b"".join(p.chain[:limit]))):
            del self._open[rid]
            return False
        p.staging = s
        s.answered.wait(_GLANCE_SECONDS)
        return True

    def release(self, p: Prompt) -> None:
        if p.staging is None:
            return
        rid = p.request.request_id
        p.staging = None
        self._open.pop(rid, None)
        self._link.send("release", id=rid)

    def give_up(self, p: Prompt) -> None:
        """Nothing more is staged for this request."""
        self.release(p)
        p.stagings = _MAX_STAGINGS


def _of_use(s: Staging, first: int) -> bool:
    """Blocks may be gone from the engine's cache that were there when the
    question was asked, and a hold may be about to end."""
    return first >= s.first and (not s.answered.is_set() or time.monotonic() < s.until - _COPY_SECONDS)


def b64(b: bytes) -> str:
    return base64.b64encode(b).decode()
