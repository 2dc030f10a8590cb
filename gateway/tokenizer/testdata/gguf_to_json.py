"""Writes the tokenizer.json that a byte-level GGUF file's vocabulary stands for.

Usage: gguf_to_json.py model.gguf > tokenizer.json. Only for pre-tokenizer
"smollm": Digits(individual) and then GPT-2's ByteLevel.
"""
import json, struct, sys

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def value(f, kind):
    if kind == 8:
        return f.read(value(f, 10)).decode("utf-8")
    if kind == 9:
        item, count = value(f, 4), value(f, 10)
        return [value(f, item) for _ in range(count)]
    code = "<" + NUMBERS[kind]
    return struct.unpack(code, f.read(struct.calcsize(code)))[0]


with open(sys.argv[1], "rb") as f:
    magic, version, _, count = struct.unpack("<4sIQQ", f.read(24))
    assert magic == b"GGUF" and version in (2, 3), (magic, version)
    fields = {value(f, 8): value(f, value(f, 4)) for _ in range(count)}
get = lambda k: fields["tokenizer.ggml." + k]
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
