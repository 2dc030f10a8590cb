"""The reference that the differential tests ask: Hugging Face tokenizers, or for
tekken.json tiktoken, as Mistral's own code does.

Usage: reference.py tokenizer.json[.gz]|tekken.json, or reference.py --split
PATTERN... Reads one JSON value a line, answers one a line: {"e": text} -> ids,
{"s": text} -> ids with special tokens added, {"d": ids, "skip": bool} -> text,
{"p": text} -> the pieces that the patterns split it into.
"""
import base64, gzip, json, sys


def tekken(path):
    import tiktoken
    with open(path, encoding="utf-8") as f:
        file = json.load(f)
    config = file["config"]
    offset = config["default_num_special_tokens"]
    ranks = {base64.b64decode(v["token_bytes"]): v["rank"] for v in file["vocab"][: config["default_vocab_size"] - offset]}
    enc = tiktoken.Encoding("tekken", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})

    def answer(q):
        if "e" in q:
            return [i + offset for i in enc.encode_ordinary(q["e"])]
        return enc.decode([i - offset for i in q["d"]])
    return answer


def hugging_face(path):
    from tokenizers import Tokenizer
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
        tok = Tokenizer.from_str(f.read())

    def answer(q):
        if "d" in q:
            return tok.decode(q["d"], skip_special_tokens=q["skip"])
        return tok.encode(q.get("e", q.get("s")), add_special_tokens="s" in q).ids
    return answer


def split(patterns):
    from tokenizers import Regex, pre_tokenizers
    pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])
    return lambda q: [piece for piece, _ in pre.pre_tokenize_str(q["p"])]


if sys.argv[1] == "--split":
    answer = split(sys.argv[2:])
elif sys.argv[1].endswith("tekken.json"):
    answer = tekken(sys.argv[1])
else:
    answer = hugging_face(sys.argv[1])
for line in sys.stdin:
    sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
    sys.stdout.flush()
