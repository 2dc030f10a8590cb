"""The engine's KV pages as rows of bytes.

Nothing is assumed about what is in a page, only that a page of a layer lies in
one piece: layouts differ between attention backends and versions of vLLM.
"""

import torch


class Unsuitable(Exception):
    """The pages lie in a way that cannot be copied block by block."""


class Pages:
    """All layers' pages. A block's bytes are its pages, layer after layer."""

    def __init__(self, kv_caches: dict[str, torch.Tensor], num_blocks: int) -> None:
        self._layers: list[torch.Tensor] = []  # each (num_blocks, page bytes)
        self.shapes: list[str] = []
        seen: set[int] = set()
        for name, cache in kv_caches.items():
            if not isinstance(cache, torch.Tensor):
                raise Unsuitable(f"{name} keeps its KV in several tensors")
            if cache.device.type != "cpu":
                raise Unsuitable(f"{name} has its KV on {cache.device}; this version copies between host memories")
            if cache.data_ptr() in seen:
                continue  # layers that share their KV
            seen.add(cache.data_ptr())
            self._layers.append(_rows(name, cache, num_blocks))
            self.shapes.append(f"{tuple(cache.shape[1:])} {cache.stride()[1:]} {cache.dtype}")
        if not self._layers:
            raise Unsuitable("the model has no KV cache")
        self.block_bytes = sum(layer.shape[1] for layer in self._layers)

    @property
    def layers(self) -> int:
        return len(self._layers)

    def save(self, block: int, slot: torch.Tensor) -> None:
        """Copies a block out of the engine."""
        at = 0
        for layer in self._layers:
            n = layer.shape[1]
            slot[at : at + n].copy_(layer[block])
            at += n

    def load(self, slot: torch.Tensor, block: int) -> None:
        """Copies a block into the engine."""
        at = 0
        for layer in self._layers:
            n = layer.shape[1]
            layer[block].copy_(slot[at : at + n])
            at += n


def _rows(name: str, cache: torch.Tensor, num_blocks: int) -> torch.Tensor:
    """The cache as (num_blocks, page bytes), whatever order its dimensions have
    inside a page. Kernels may cut a block into several rows of the cache."""
    if cache.dim() < 2 or num_blocks < 1 or cache.shape[0] % num_blocks:
        raise Unsuitable(f"{name} has shape {tuple(cache.shape)}, which does not begin with {num_blocks} blocks")
    rows_per_block = cache.shape[0] // num_blocks
    row = cache[0].numel()
    span = 1 + sum((n - 1) * stride for n, stride in zip(cache.shape[1:], cache.stride()[1:], strict=True))
    if span != row or rows_per_block > 1 and cache.stride(0) != row:
        raise Unsuitable(f"{name} scatters a block: shape {tuple(cache.shape)}, strides {cache.stride()}")
    flat = torch.as_strided(cache, (num_blocks, rows_per_block * row), (rows_per_block * cache.stride(0), 1))
    return flat.view(torch.uint8)
