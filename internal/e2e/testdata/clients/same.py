"""Asks for answers of every kind with the official Python client and prints
each as JSON, one a line, without what differs from one time to the next."""
import json
import sys

import openai

base, model = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=base + "/v1", api_key="unused", max_retries=0)
user = [{"role": "user", "content": "Name three rivers of Iceland, and say why each is known. " * 6}]
tools = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def plain(x):
    """Without ids and times, which are new each time."""
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items() if k not in ("id", "created", "request_id")}
    return [plain(e) for e in x] if isinstance(x, list) else x


def show(name, answer):
    print(json.dumps({name: plain(answer)}, ensure_ascii=False))


def joined(chunks):
    """A stream as one chunk: vLLM sends as many tokens in one as it has by then,
    so that where it cuts is a matter of time."""
    whole = None
    for chunk in chunks:
        whole = merge(None, whole, chunk.model_dump())
    return whole


def merge(key, a, b):
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, dict):
        return {k: merge(k, a.get(k), b.get(k)) for k in {**a, **b}}
    if isinstance(a, list):
        if not all(isinstance(e, dict) and "index" in e for e in a + b):
            return a + b
        old, new = {e["index"]: e for e in a}, {e["index"]: e for e in b}
        return [merge(None, old.get(i), new.get(i)) for i in sorted({**old, **new})]
    return a + b if key in ("content", "text", "arguments", "reasoning") else b


def chat(name, **args):
    args = {"model": model, "messages": user, "max_tokens": 24, "temperature": 0, **args}
    show(name, client.chat.completions.create(**args).model_dump())
    stream = client.chat.completions.create(**args, stream=True, stream_options={"include_usage": True})
    show(name + ", streamed", joined(stream))


def completion(name, **args):
    args = {"model": model, "prompt": "One two three", "max_tokens": 12, "temperature": 0, **args}
    show(name, client.completions.create(**args).model_dump())
    show(name + ", streamed", joined(client.completions.create(**args, stream=True)))


def error(name, **args):
    args = {"model": model, "messages": user, "max_tokens": 4, **args}
    try:
        client.chat.completions.create(**args)
        show(name, "no error")
    except openai.APIStatusError as e:
        show(name, {"class": type(e).__name__, "status": e.status_code, "type": e.type, "param": e.param, "message": e.message})


chat("chat")
chat("logprobs", logprobs=True, top_logprobs=3)
chat("stop", stop=["river"])
chat("two choices", n=2, temperature=0.5, seed=3)
chat("tools", tools=tools)
chat("a named tool", tools=tools, tool_choice={"type": "function", "function": {"name": "weather"}}, max_tokens=40)
chat("JSON", response_format={"type": "json_object"})
chat("seeded", temperature=1.0, seed=7)
completion("completion")
completion("completion with logprobs", logprobs=2)
completion("completion of tokens", prompt=[504, 2365, 1345], echo=True)
completion("completion of two", prompt=["One two", "Three four"])
error("temperature", temperature=9.0)
error("logprobs", logprobs=True, top_logprobs=10000)
error("tool choice", tool_choice={"type": "function", "function": {"name": "nope"}}, tools=tools)
