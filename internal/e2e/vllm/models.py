"""Makes the models that the tests serve with real vLLM.

    models.py smollm2 FILE.gguf OUT        SmolLM2 as a Hugging Face folder
    models.py tiny TOKENIZER.json[.gz] OUT a small Qwen3 with random weights
    models.py hybrid FOLDER OUT            a small Gemma 3 without weights, with a
                                           folder's tokenizer and template
"""

import gzip
import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file

os.environ["HF_HUB_OFFLINE"] = "1"


def smollm2(path, out):
    """Dequantises a Llama GGUF. Its q and k rows are stored interleaved for
    GGUF's rotary embedding; Hugging Face wants each half together."""
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from transformers import AutoTokenizer

    reader = GGUFReader(path)

    def field(name):
        return reader.fields[name].contents()

    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    parts = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    whole = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    rows = {"attn_q": heads, "attn_k": kv_heads}
    weights = {}
    for tensor in reader.tensors:
        w = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = tensor.name.removesuffix(".weight")
        if name in whole:
            name = whole[name]
        else:
            _, layer, part = name.split(".")
            if n := rows.get(part):
                w = w.reshape(n, w.shape[0] // n // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
            name = f"model.layers.{layer}.{parts[part]}"
        weights[name + ".weight"] = torch.from_numpy(np.ascontiguousarray(w)).to(torch.bfloat16)
    width = field("llama.embedding_length")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width // heads,
        "rms_norm_eps": float(field("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(field("llama.rope.freq_base")),
        "max_position_embeddings": field("llama.context_length"),
        "vocab_size": field("llama.vocab_size"),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
    }
    AutoTokenizer.from_pretrained(os.path.dirname(path), gguf_file=os.path.basename(path)).save_pretrained(out)
    write(out, config, weights)


def tiny(tokenizer, out):
    """Random weights, but sharp ones: greedy output depends on every token of
    the prompt, so that KV taken from the wrong place shows in the answer."""
    data = (gzip.open if tokenizer.endswith(".gz") else open)(tokenizer, "rb").read()
    spec = json.loads(data)
    added = {t["content"]: t["id"] for t in spec["added_tokens"]}
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000,
        "max_position_embeddings": 32768,
        "vocab_size": 1 + max(*added.values(), *spec["model"]["vocab"].values()),
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "hidden_act": "silu",
        "attention_bias": False,
        "eos_token_id": added["<|im_end|>"],
        "pad_token_id": added["<|endoftext|>"],
    }
    g = torch.Generator().manual_seed(0)

    def random(*shape, std=1.0):
        return (torch.randn(*shape, generator=g) * std).to(torch.bfloat16)

    def constant(value, n):
        return torch.full((n,), value, dtype=torch.bfloat16)

    width, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q, kv = config["num_attention_heads"] * config["head_dim"], config["num_key_value_heads"] * config["head_dim"]
    weights = {
        "model.embed_tokens.weight": random(vocab, width),
        "model.norm.weight": constant(1.0, width),
        "lm_head.weight": random(vocab, width),
    }
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        weights |= {
            p + "self_attn.q_proj.weight": random(q, width, std=width**-0.5),
            p + "self_attn.k_proj.weight": random(kv, width, std=width**-0.5),
            p + "self_attn.v_proj.weight": random(kv, width, std=3 * width**-0.5),
            p + "self_attn.o_proj.weight": random(width, q, std=3 * q**-0.5),
            p + "self_attn.q_norm.weight": constant(1.5, config["head_dim"]),
            p + "self_attn.k_norm.weight": constant(1.5, config["head_dim"]),
            p + "mlp.gate_proj.weight": random(inner, width, std=width**-0.5),
            p + "mlp.up_proj.weight": random(inner, width, std=width**-0.5),
            p + "mlp.down_proj.weight": random(width, inner, std=2 * inner**-0.5),
            p + "input_layernorm.weight": constant(1.0, width),
            p + "post_attention_layernorm.weight": constant(1.0, width),
        }
    os.makedirs(out)
    with open(f"{out}/tokenizer.json", "wb") as f:
        f.write(data)
    template = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny-template.jinja")
    with open(f"{out}/tokenizer_config.json", "w") as f:
        json.dump(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": None,
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "clean_up_tokenization_spaces": False,
                "model_max_length": 32768,
                "add_bos_token": False,
                "chat_template": open(template).read(),
            },
            f,
        )
    write(out, config, weights)


def hybrid(folder, out):
    """Three layers that see a window of 64 tokens and one that sees everything:
    vLLM keeps their KV in groups. Its own dummy weights do."""
    os.makedirs(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(f"{folder}/{name}", out)
    tiny = json.load(open(f"{folder}/config.json"))
    config = {k: tiny[k] for k in ("vocab_size", "eos_token_id", "pad_token_id", "torch_dtype", "head_dim", "hidden_size", "intermediate_size", "rms_norm_eps")} | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768,
        "query_pre_attn_scalar": 64,
        "rope_theta": 1000000,
        "rope_local_base_freq": 10000,
        "sliding_window": 64,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        "tie_word_embeddings": True,
    }
    with open(f"{out}/config.json", "w") as f:
        json.dump(config, f, indent=1)


def write(out, config, weights):
    with open(f"{out}/config.json", "w") as f:
        json.dump(config, f, indent=1)
    with open(f"{out}/generation_config.json", "w") as f:
        json.dump({k: config[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id") if k in config}, f)
    save_file(weights, f"{out}/model.safetensors", metadata={"format": "pt"})


{"smollm2": smollm2, "tiny": tiny, "hybrid": hybrid}[sys.argv[1]](sys.argv[2], sys.argv[3])
