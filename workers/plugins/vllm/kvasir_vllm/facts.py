"""What an engine says of itself to the agent."""

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import vllm
from vllm.v1.kv_cache_interface import FullAttentionSpec

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig

ENGINE = f"vllm {vllm.__version__}"
VERSION = tuple(int(n) for n in re.findall(r"\d+", vllm.__version__)[:2])


def unsuited(c: "VllmConfig", kv: "KVCacheConfig") -> str:
    """Why blocks of this engine cannot be kept; empty if they can."""
    if len(kv.kv_cache_groups) != 1:
        return f"the model keeps its KV in {len(kv.kv_cache_groups)} groups; this version needs one"
    spec = kv.kv_cache_groups[0].kv_cache_spec
    if not isinstance(spec, FullAttentionSpec):
        return f"the model keeps its KV as {type(spec).__name__}; this version needs full attention"
    if not c.cache_config.enable_prefix_caching:
        return "prefix caching is off"
    return ""


def served_name(c: "VllmConfig") -> str:
    """What a gateway calls the model: the first name that the engine lists."""
    name = c.model_config.served_model_name or c.model_config.model
    return name if isinstance(name, str) else name[0]


def fingerprint(c: "VllmConfig", memory: Any) -> str:
    """Engines that share it can use each other's blocks, besides serving under
    one name; memory is how a block lies. Where the weights lie is nothing to go
    by: folders differ."""
    model = {k: v for k, v in c.model_config.hf_config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
    what = [model, str(c.model_config.dtype), str(c.cache_config.cache_dtype), c.model_config.quantization, memory]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:32]
