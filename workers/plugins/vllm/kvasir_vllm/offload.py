"""vLLM's offloading connector with Kvasir's tiers below its CPU region.

A secondary tier is told of blocks by vLLM's hashes alone. Kvasir names them by
their tokens, so that gateway, agents and engines speak of the same blocks; this
connector lets the tier see the requests that the hashes are of.
"""

from typing import TYPE_CHECKING

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.distributed.kv_transfer.kv_connector.v1.offloading_connector import OffloadingConnector
from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory

from kvasir_vllm.tier import KvasirTier

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

SecondaryTierFactory.register_tier(KvasirTier.__name__, KvasirTier.__module__, KvasirTier.__name__)


class KvasirOffloadingConnector(OffloadingConnector):
    def __init__(self, vllm_config: "VllmConfig", role: KVConnectorRole, kv_cache_config: "KVCacheConfig") -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        self._tiers: list[KvasirTier] = []
        if self.connector_scheduler is not None:
            tiers = getattr(self.connector_scheduler.manager, "secondary_tiers", [])
            self._tiers = [t for t in tiers if isinstance(t, KvasirTier)]
        for tier in self._tiers:
            tier.attach(vllm_config, kv_cache_config)

    def get_num_new_matched_tokens(self, request: "Request", num_computed_tokens: int) -> tuple[int | None, bool]:
        for tier in self._tiers:
            tier.track(request)
        return super().get_num_new_matched_tokens(request, num_computed_tokens)
