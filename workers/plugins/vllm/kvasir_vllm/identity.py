"""Names of blocks, exactly as Kvasir's gateway and agent make them.

They are made here and not by the agent because the two halves of the connector
name blocks independently of each other, and a name needs nothing but tokens.
"""

import sys
from array import array
from collections.abc import Sequence
from hashlib import sha256
from struct import pack

HASH_BYTES = 16
_BLOCK_DOMAIN = b"kvasir/block/1\0"
_ROOT_DOMAIN = b"kvasir/root/1\0"


def root_hash(model: str, lora: str, salt: str, block_size: int) -> bytes:
    """The parent of a prompt's first block: all that its KV depends on besides
    tokens. Prompts of different roots share nothing."""
    b = _ROOT_DOMAIN
    for field in (model, lora, salt):
        text = field.encode()
        b += pack("<I", len(text)) + text
    return sha256(b + pack("<I", block_size)).digest()[:HASH_BYTES]


def extend_chain(chain: list[bytes], root: bytes, tokens: Sequence[int], block_size: int) -> None:
    """Appends the names of the full blocks of tokens, which follow the chain."""
    ids = array("I", tokens)
    if sys.byteorder == "big":
        ids.byteswap()
    raw, step = ids.tobytes(), 4 * block_size
    parent = chain[-1] if chain else root
    for at in range(0, len(raw) - step + 1, step):
        parent = sha256(_BLOCK_DOMAIN + parent + raw[at : at + step]).digest()[:HASH_BYTES]
        chain.append(parent)
