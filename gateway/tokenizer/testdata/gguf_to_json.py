"""Writes the tokenizer.json that a byte-level GGUF file's vocabulary stands for.

Usage: gguf_to_json.py model.gguf > tokenizer.json. Needs the gguf package. Only
for pre-tokenizer "smollm": Digits(individual) and then GPT-2's ByteLevel.
"""
import json, sys
from gguf import GGUFReader

r = GGUFReader(sys.argv[1])
get = lambda k: r.fields["tokenizer.ggml." + k].contents()
assert get("pre") == "smollm", get("pre")
tokens, types = get("tokens"), get("token_type")
added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
          "special": k == 3} for i, (t, k) in enumerate(zip(tokens, types)) if k in (3, 4)]
byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
json.dump({
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
    "post_processor": None, "decoder": byte_level,
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
              "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [m.split(" ", 1) for m in get("merges")]},
}, sys.stdout, ensure_ascii=False)
