"""KvasirConnector, as vLLM sees it: one instance beside the scheduler, one beside
the pages. It only passes calls on to its half."""

import logging
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)

from kvasir_vllm.facts import ENGINE, fingerprint, served_name, unsuited
from kvasir_vllm.pages import Pages, Unsuitable
from kvasir_vllm.scheduler import SchedulerSide
from kvasir_vllm.steps import Step
from kvasir_vllm.worker import WorkerSide

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

log = logging.getLogger("vllm.kvasir")


class KvasirConnector(KVConnectorBase_V1):
    """Where it cannot be of use (see _unsuited) it does nothing, and says so."""

    def __init__(self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._scheduler: SchedulerSide | None = None
        self._worker: WorkerSide | None = None
        self._socket = self._kv_transfer_config.get_from_extra_config("socket", "")
        if not self._socket:
            raise ValueError("KvasirConnector: set kv_connector_extra_config.socket to the agent's agent.plugin")
        self._off = _unsuited(vllm_config, kv_cache_config)
        if self._off:
            log.warning("Kvasir's tiers are not used: %s", self._off)
        elif role == KVConnectorRole.SCHEDULER:
            self._scheduler = SchedulerSide(self._socket, ENGINE, self._block_size)

    @property
    def _block_size(self) -> int:
        return self._kv_cache_config.kv_cache_groups[0].kv_cache_spec.block_size

    @property
    def requires_kv_delivery(self) -> bool:
        """A save that is lost is a later miss, nothing worse."""
        return False

    def shutdown(self) -> None:
        for half in (self._scheduler, self._worker):
            if half is not None:
                half.close()

    # Beside the scheduler.

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int | None, bool]:
        return self._scheduler.matched(request, num_computed_tokens) if self._scheduler else (0, False)

    def update_state_after_alloc(self, request: "Request", blocks: "KVCacheBlocks", num_external_tokens: int) -> None:
        if self._scheduler:
            self._scheduler.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> KVConnectorMetadata:
        return self._scheduler.step(scheduler_output) if self._scheduler else Step()

    def update_connector_output(self, connector_output: "KVConnectorOutput") -> None:
        if self._scheduler:
            self._scheduler.received(connector_output)

    def request_finished(self, request: "Request", block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        if self._scheduler:
            self._scheduler.finished(request)
        return False, None

    def reset_cache(self) -> bool | None:
        """The tiers' blocks belong to the model's name: weights that change under
        one name cannot be told from the old ones, and resetting is refused."""
        return False if self._scheduler else None

    # Beside the pages.

    def register_kv_caches(self, kv_caches: "dict[str, torch.Tensor]") -> None:
        if self._off:
            return
        try:
            pages = Pages(kv_caches, self._kv_cache_config.num_blocks)
        except Unsuitable as e:
            log.warning("Kvasir's tiers are not used: %s", e)
            return
        c = self._vllm_config
        # Room for what two steps fill.
        stock = 2 * (c.scheduler_config.max_num_batched_tokens // self._block_size + c.scheduler_config.max_num_seqs)
        self._worker = WorkerSide(
            self._socket,
            {
                "engine": ENGINE,
                "model": served_name(c),
                "layout": {
                    "fingerprint": fingerprint(c, pages.shapes),
                    "dtype": str(next(iter(kv_caches.values())).dtype),
                    "layers": pages.layers,
                    "block_size": self._block_size,
                    "block_bytes": pages.block_bytes,
                },
            },
            pages,
            stock,
        )

    def start_load_kv(self, forward_context: "ForwardContext", **kwargs: Any) -> None:
        if self._worker:
            self._worker.load(self._step().loads)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are between steps: a request runs when all its layers are there."""

    def save_kv_layer(self, layer_name: str, kv_layer: "torch.Tensor", attn_metadata: Any, **kwargs: Any) -> None:
        """Blocks are saved whole, after the last layer."""

    def wait_for_save(self) -> None:
        if self._worker and (saves := self._step().saves):
            self._worker.save(saves)

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        return None, (self._worker.ended() if self._worker else None)

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self._worker.bad_blocks() if self._worker else set()

    def _step(self) -> Step:
        step = self._get_connector_metadata()
        assert isinstance(step, Step)
        return step


def _unsuited(c: "VllmConfig", kv: "KVCacheConfig") -> str:
    """Why the tiers cannot be used with this engine; empty if they can."""
    if (n := c.parallel_config.world_size) > 1:
        return f"the engine's pages are spread over {n} processes, which this version does not collect"
    return unsuited(c, kv)
