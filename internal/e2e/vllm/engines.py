"""Runs vLLM engines on CPUs, quickly: vLLM is imported once, and each engine is
forked from here, which saves the import and shares its pages.

Reads one JSON object a line from standard input and answers each with one line:

    {"start": NAME, "args": ["MODEL", "--port", "8001", ...], "env": {...}, "log": FILE}
    {"kill": NAME}    as a crash would
    {"stop": NAME}    as an operator would
    {"check": NAME}   answered "ok" while it runs, else "gone"

It says "ready" when it takes commands. At the end of its input, and on SIGTERM
and SIGINT, it stops what runs and ends.

With "fork": false an engine is a process of its own, imports and all: the
coordinator of --data-parallel-size does not survive being forked.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback

DEFAULTS = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_SERVER_DEV_MODE": "1",
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what the imports print is no answer

import vllm.entrypoints.cli.main as cli  # noqa: E402
import vllm.v1.engine.utils  # noqa: E402

for module in (
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.openai.api_server",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.qwen3",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.worker.cpu_worker",
    "torch._inductor.lowering",
):
    try:
        __import__(module)
    except ImportError as e:  # another version of vLLM keeps it elsewhere
        print("not imported ahead:", module, e, file=sys.stderr)

# vLLM spawns its processes on CPUs, which would import everything again.
vllm.v1.engine.utils.get_mp_context = lambda: multiprocessing.get_context("fork")

engines = {}  # name -> pid
mother = os.getpid()


def detach(log):
    """What a child does first: a group of its own, dying with us, output in a file."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    fd = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def start(name, args, log, env=None, fork=True):
    if not fork:
        whole = {**os.environ, **(env or {})}
        vllm_command = os.path.join(os.path.dirname(sys.executable), "vllm")
        child = subprocess.Popen([vllm_command, "serve", *args], env=whole, preexec_fn=lambda: detach(log))
        engines[name] = child.pid
        return
    pid = os.fork()
    if pid == 0:
        for s in (signal.SIGTERM, signal.SIGINT):
            signal.signal(s, signal.SIG_DFL)
        detach(log)
        os.environ.update(env or {})
        sys.argv = ["vllm", "serve", *args]
        code = 1
        try:
            cli.main()
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    engines[name] = pid


def end(name, sig):
    """Returns when no process of the engine is left: the last one to go may be
    the one that holds its ports."""
    group = engines.pop(name, None)
    if group is None:
        return
    for how, patience in ((sig, 15), (signal.SIGKILL, 15)):
        try:
            os.killpg(group, how)
        except ProcessLookupError:
            return
        until = time.monotonic() + patience
        while time.monotonic() < until:
            try:
                os.waitpid(group, os.WNOHANG)
            except ChildProcessError:
                pass  # reaped
            if not any_alive(group):
                return
            time.sleep(0.02)


def any_alive(group):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                state, _, pgrp = f.read().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state not in "ZX":
            return True
    return False


def runs(name):
    if name in engines and not os.waitpid(engines[name], os.WNOHANG)[0]:
        return True
    engines.pop(name, None)
    return False


def end_all(*_):
    if os.getpid() != mother:
        os._exit(0)
    for pid in engines.values():
        try:
            os.killpg(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
    for name in list(engines):
        end(name, signal.SIGTERM)
    os._exit(0)


def main():
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, end_all)
    print("ready", file=answers)
    for line in sys.stdin:
        command, answer = json.loads(line), "ok"
        if name := command.pop("start", None):
            start(name, **command)
        elif name := command.get("kill"):
            end(name, signal.SIGKILL)
        elif name := command.get("stop"):
            end(name, signal.SIGTERM)
        elif name := command.get("check"):
            answer = "ok" if runs(name) else "gone"
        print(answer, file=answers)
    end_all()


main()
