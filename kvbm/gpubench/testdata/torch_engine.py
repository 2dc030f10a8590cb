"""An engine for the GPU bench with PyTorch's kernels, in place of ServeEngine.

products: a queue of 8192 x 8192 bf16 matrix products. decode: the CUDA graph of
one step of a model shaped like an 8B Llama, 32 sequences of 1,024 tokens, with
256 bytes to the GPU, 256 back and a wait at each step.
"""

import base64
import ctypes
import json
import socket
import struct
import sys
import threading
import time

import torch

PAGE, PAGES = 2 << 20, 2048
LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, HEAD, VOCAB = 32, 4096, 14336, 32, 8, 128, 128256
BATCH, CONTEXT = 32, 1024


def handle(tensor):
    cuda = ctypes.CDLL("libcuda.so.1")
    raw, base, size = ctypes.create_string_buffer(64), ctypes.c_uint64(), ctypes.c_size_t()
    address = ctypes.c_uint64(tensor.data_ptr())
    assert cuda.cuMemGetAddressRange_v2(ctypes.byref(base), ctypes.byref(size), address) == 0
    assert cuda.cuIpcGetMemHandle(raw, address) == 0
    return raw.raw, tensor.data_ptr() - base.value


def weight(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16) * 0.02


class Model:
    def __init__(self):
        self.layers = [
            (weight(HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD), weight(HIDDEN, HIDDEN), weight(HIDDEN, 2 * INNER), weight(INNER, HIDDEN),
             weight(BATCH * KV_HEADS, HEAD, CONTEXT), weight(BATCH * KV_HEADS, CONTEXT, HEAD))
            for _ in range(LAYERS)
        ]
        self.head = weight(HIDDEN, VOCAB)
        self.embedding = weight(VOCAB, HIDDEN)
        self.ids = torch.zeros(BATCH, dtype=torch.int64, device="cuda")
        self.host_ids = torch.zeros(BATCH, dtype=torch.int64).pin_memory()
        self.host_tokens = torch.zeros(BATCH, dtype=torch.int64).pin_memory()
        self.stream = torch.cuda.Stream()
        with torch.cuda.stream(self.stream):
            for _ in range(3):
                self.tokens = self.forward()
        self.stream.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.tokens = self.forward()

    def forward(self):
        x = self.embedding[self.ids]
        for qkv, out, up, down, keys, values in self.layers:
            q = (torch.rms_norm(x, (HIDDEN,)) @ qkv)[:, : HIDDEN].reshape(BATCH * KV_HEADS, HEADS // KV_HEADS, HEAD)
            scores = torch.softmax(torch.bmm(q, keys), -1)
            x = x + torch.bmm(scores, values).reshape(BATCH, HIDDEN) @ out
            gate, value = (torch.rms_norm(x, (HIDDEN,)) @ up).chunk(2, -1)
            x = x + (torch.nn.functional.silu(gate) * value) @ down
        return torch.argmax(torch.rms_norm(x, (HIDDEN,)) @ self.head, -1)

    def step(self):
        with torch.cuda.stream(self.stream):
            self.ids.copy_(self.host_ids, non_blocking=True)
            self.graph.replay()
            self.host_tokens.copy_(self.tokens, non_blocking=True)
        self.stream.synchronize()


class Products:
    def __init__(self):
        self.a, self.b = weight(8192, 8192), weight(8192, 8192)
        self.c = torch.empty_like(self.a)
        self.events = [torch.cuda.Event() for _ in range(4)]
        self.turn = 0

    def step(self):
        torch.mm(self.a, self.b, out=self.c)
        self.events[self.turn % 4].record()
        self.turn += 1
        if self.turn >= 4:
            self.events[self.turn % 4].synchronize()


def main():
    kv = torch.zeros(PAGES * PAGE, dtype=torch.uint8, device="cuda")
    raw, offset = handle(kv)
    loads = {"products": Products(), "decode": Model()}
    torch.cuda.synchronize()
    print("engine:", torch.cuda.get_device_name(), torch.__version__, file=sys.stderr)
    start = time.perf_counter()
    state = {"load": "idle", "progress": {"steps": 0, "at": 0}}
    conn = socket.socket(socket.AF_UNIX)
    conn.connect(sys.argv[1])
    registration = json.dumps({
        "pages": PAGES,
        "memories": [{"handle": base64.b64encode(raw).decode(), "offset": offset, "size": PAGES * PAGE}],
        "fragments": [{"memory": 0, "offset": 0, "stride": PAGE, "bytes": PAGE}],
    }).encode()
    conn.sendall(struct.pack("<II", len(registration), 0) + registration)

    def obey():
        for line in conn.makefile("r"):
            state["load"] = json.loads(line)["load"] or state["load"]
            conn.sendall((json.dumps(state["progress"]) + "\n").encode())
        state["load"] = "over"

    threading.Thread(target=obey, daemon=True).start()
    while state["load"] != "over":
        load = loads.get(state["load"])
        if load is None:
            time.sleep(0.001)
            continue
        load.step()
        state["progress"] = {
            "steps": state["progress"]["steps"] + 1,
            "at": int((time.perf_counter() - start) * 1e9),
        }


main()
