"""Kvasir's KV cache tiers for vLLM."""

from kvasir_vllm.connector import KvasirConnector

__all__ = ["KvasirConnector"]
