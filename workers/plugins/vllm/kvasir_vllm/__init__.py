"""Kvasir's KV cache tiers for vLLM; the connector is in kvasir_vllm.connector."""
