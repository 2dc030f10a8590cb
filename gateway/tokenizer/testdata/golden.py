"""Writes golden.json.gz: small tokenizers and what Hugging Face's library does with them.

Usage: golden.py > golden.json.gz, with tokenizers==0.23.2 and tiktoken==0.14.0 installed. "splits"
has, for every split pattern with a hand-written scanner, texts and their
pieces. "models" has tokenizers trained here on a few hundred lines, with texts,
their ids without and with special tokens, and the text of the ids. "ranks" has
tiktoken's ids of a small rank file.
"""
import base64, gzip, json, random, sys
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

rng = random.Random(16)
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}%s]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}%s]"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n%s]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def cased(extra, contraction, numbers, slash):
    u, l, lead = UPPER % extra, LOWER % extra, r"[^\r\n\p{L}\p{N}]?"
    c = contraction and CONTRACTION + "?"
    return f"{lead}{u}*{l}+{c}|{lead}{u}+{l}*{c}|{numbers}" + TAIL % slash


PATTERNS = {
    "gpt2": [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"],
    "cl100k": [CL100K],
    "qwen2": [CL100K.replace(r"\p{N}{1,3}", r"\p{N}")],
    "qwen35": [CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
    "o200k": [cased("", CONTRACTION, r"\p{N}{1,3}", "/")],
    "tekken": [cased("", "", r"\p{N}", "/")],
    "kimi": [r"[\p{Han}]+|" + cased(r"&&[^\p{Han}]", CONTRACTION, r"\p{N}{1,3}", "")],
    "deepseek": [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""],
}
PATTERNS["smollm"] = [r"\p{N}", PATTERNS["gpt2"][0]]

ALPHABETS = ["abcdefghij", "ABCDEFGH", "0123456789", "   \t\n\r\u00a0\u2003\u3000\u0085\u2028", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
             "éèüßÆŒİıſKǅʰªº", "абвгАБВГ", "αβγΑΒΓΩ", "你好世界的一是々〇⺀", "ひらがなカタカナーゞ゛・゠", "한국어안녕", "नमस्तेकािीु", "مرحباًٌ",
             "\u0301\u0308\u0323\u20d0\ufe0f\u200d\u200b", "😀👍🏽🇩🇪❤️", "½²٣৪Ⅷ①𝟘〡", "€£¥±×∑√", "\x00\x1f\x7f\u0080", "\u0378\ue000\U0010FFFD\uFFFD",
             "\U00011099\U000110BA\U00016D63\U00016D67\u1df9\u0898"]
FRAGMENTS = ["'s", "'LL", "'Ve", "'ſ", "’s", "don't", "we'LL've", "\r\n", "\n\n", " \n", "  \n  ", "    ", "/**/", " //\n/", "foo_bar", "camelCaseWORD",
             "HTTPServer", "3.14159", "hello", " world", " the", "e\u0301", "\u1100\u1161\u11a8", "<|sep|>", "<s>", "</s>", "<unk>", "▁", "[X]", "<0x0A>"]


def sample():
    out = []
    for _ in range(rng.randint(1, 10)):
        if rng.random() < 0.6:
            alphabet = rng.choice(ALPHABETS)
            out += [rng.choice(alphabet) for _ in range(rng.randint(1, 6))]
        else:
            out.append(rng.choice(FRAGMENTS))
        if rng.random() < 0.3:
            out.append(" ")
    return "".join(out)


def splitter(patterns):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])


splits = {}
for name, patterns in PATTERNS.items():
    pre, texts = splitter(patterns), [sample() for _ in range(150)]
    splits[name] = {"patterns": patterns, "cases": [[piece for piece, _ in pre.pre_tokenize_str(t)] for t in texts]}

TRAINING = [sample() for _ in range(300)] + ["the quick brown fox jumps over the lazy dog", " hello world, hello the world"] * 20
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def model(pre=None, norm=None, decoder=None, post=None, added=(), bytes_too=True, unk=None, **bpe):
    tok = Tokenizer(models.BPE(unk_token=unk))
    tok.pre_tokenizer, tok.normalizer = pre, norm
    alphabet = pre_tokenizers.ByteLevel.alphabet() if bytes_too == "level" else []
    special = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if bytes_too is True else [])
    tok.train_from_iterator(TRAINING, trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    spec = json.loads(tok.to_str())
    spec["model"].update(bpe)
    spec["added_tokens"] = [t for t in spec["added_tokens"] if not t["content"].startswith("<0x")]
    tok = Tokenizer.from_str(json.dumps(spec))
    for t in added:
        (tok.add_special_tokens if t.special else tok.add_tokens)([t])
    if decoder: tok.decoder = decoder
    if post: tok.post_processor = post
    cases = []
    for text in [sample() for _ in range(50)] + ["", " ", "  ", "a", " a", "<s>", " <s> ", "<|sep|>", "a <|sep|> b", "x[X]x [X] x", "\n", "hello world", "a fox fox"]:
        ids, special_ids = tok.encode(text, add_special_tokens=False).ids, tok.encode(text).ids
        cases.append([text, ids, special_ids, tok.decode(ids, False), tok.decode(ids, True)])
    for _ in range(20):
        ids = [rng.randrange(tok.get_vocab_size()) for _ in range(rng.randint(1, 8))]
        cases.append([None, ids, None, tok.decode(ids, False), tok.decode(ids, True)])
    return {"tokenizer": json.loads(tok.to_str()), "cases": cases}


def level(name, **kw):
    pre = pre_tokenizers.Sequence([*[pre_tokenizers.Split(Regex(p), "isolated") for p in PATTERNS[name]], pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return model(pre=pre, decoder=decoders.ByteLevel(), bytes_too="level", **kw)


def sentence(**kw):
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return model(decoder=kw.pop("decoder", decoder), unk="<unk>", **{"byte_fallback": True, "fuse_unk": True, **kw})


MARK = normalizers.Replace(" ", "▁")
LEGACY = normalizers.Sequence([normalizers.Prepend("▁"), MARK])
FLAGS = [AddedToken("<|sep|>", lstrip=True, rstrip=True, special=True, normalized=False), AddedToken("[X]", single_word=True, normalized=False),
         AddedToken("hello", normalized=True), AddedToken("fox", normalized=True, special=True), AddedToken("hello world", rstrip=True, normalized=True), AddedToken("<|se", normalized=False)]
BOS = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
models_ = {
    "bytes-smollm": model(pre=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                          decoder=decoders.ByteLevel(), bytes_too="level"),
    "bytes-prefix-space": model(pre=pre_tokenizers.ByteLevel(add_prefix_space=True), decoder=decoders.ByteLevel(), bytes_too="level", added=FLAGS),
    "bytes-cl100k-flags": level("cl100k", added=FLAGS, post=processors.Sequence([processors.ByteLevel(), BOS])),
    "bytes-o200k-nfc": level("o200k", norm=normalizers.NFC(), added=FLAGS),
    "bytes-deepseek": level("deepseek", post=BOS),
    "bytes-kimi": level("kimi"), "bytes-qwen35": level("qwen35", norm=normalizers.NFC()), "bytes-tekken": level("tekken", ignore_merges=True),
    "bytes-contiguous-digits": model(pre=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                                     decoder=decoders.ByteLevel(), bytes_too="level"),
    "bytes-unknown-pattern": model(pre=pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"[a-z]+(?=\d)|\d{1,2}|[^\da-z]+"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                                   decoder=decoders.ByteLevel(), bytes_too="level"),
    "bytes-missing": model(pre=pre_tokenizers.ByteLevel(add_prefix_space=False), decoder=decoders.ByteLevel(), bytes_too=False),
    "spm-legacy": sentence(norm=LEGACY, post=BOS),
    "spm-flags": sentence(norm=LEGACY, added=FLAGS),
    "spm-gemma": sentence(norm=MARK, pre=pre_tokenizers.Split(" ", "merged_with_previous"),
                          decoder=decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])),
    "spm-nfkc": sentence(norm=normalizers.Sequence([normalizers.NFKC(), normalizers.Prepend("▁"), MARK])),
    "spm-unknown": sentence(norm=LEGACY, byte_fallback=False, bytes_too=False),
    "spm-unknown-single": sentence(norm=LEGACY, byte_fallback=False, fuse_unk=False, bytes_too=False),
    **{f"metaspace-{scheme}-{'split' if split else 'whole'}": sentence(
        pre=pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split), decoder=decoders.Metaspace(prepend_scheme=scheme, split=split), added=FLAGS[:2])
        for scheme in ("always", "first", "never") for split in (True, False)},
}

# Pieces of random bytes as well, so that some cannot be reached by merging.
pieces = [bytes([b]) for b in range(256)]
seen = set(pieces)
for _ in range(600):
    piece = rng.choice(["the", " the", "hello", " world", "日本", "é", "12", "  ", "\n\n", "ing", "你"]).encode()
    piece = rng.choice([piece, rng.choice(pieces) + rng.choice(pieces), rng.choice(pieces) + piece, piece[: rng.randint(1, len(piece))]])
    if len(piece) < 12 and piece not in seen:
        seen.add(piece)
        pieces.append(piece)
texts = [sample() for _ in range(150)] + ["the hello world the日本é 12 ing"]
enc = tiktoken.Encoding("small", pat_str=PATTERNS["o200k"][0], mergeable_ranks={p: i for i, p in enumerate(pieces)}, special_tokens={})
ranks = {"file": "".join(f"{base64.b64encode(p).decode()} {i}\n" for i, p in enumerate(pieces)), "cases": [[t, enc.encode_ordinary(t)] for t in texts]}
out = json.dumps({"splits": splits, "models": models_, "ranks": ranks}, ensure_ascii=False, separators=(",", ":"))
sys.stdout.buffer.write(gzip.compress(out.encode("utf-8"), 9, mtime=0))
