"""The reference that the differential tests ask: Hugging Face tokenizers.

Usage: reference.py tokenizer.json[.gz]. Reads one JSON value a line, answers
one a line: {"e": text} -> ids, {"s": text} -> ids with special tokens added,
{"d": ids, "skip": bool} -> text.
"""
import gzip, json, sys
from tokenizers import Tokenizer

path = sys.argv[1]
with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
    tok = Tokenizer.from_str(f.read())
out = sys.stdout
for line in sys.stdin:
    q = json.loads(line)
    if "e" in q:
        a = tok.encode(q["e"], add_special_tokens=False).ids
    elif "s" in q:
        a = tok.encode(q["s"], add_special_tokens=True).ids
    else:
        a = tok.decode(q["d"], skip_special_tokens=q["skip"])
    out.write(json.dumps(a) + "\n")
    out.flush()
