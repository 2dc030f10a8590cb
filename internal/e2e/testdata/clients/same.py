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


def chat(name, **args):
    args = {"model": model, "messages": user, "max_tokens": 24, "temperature": 0, **args}
    show(name, client.chat.completions.create(**args).model_dump())
    stream = client.chat.completions.create(**args, stream=True, stream_options={"include_usage": True})
    show(name + ", streamed", [c.model_dump() for c in stream])


def completion(name, **args):
    args = {"model": model, "prompt": "One two three", "max_tokens": 12, "temperature": 0, **args}
    show(name, client.completions.create(**args).model_dump())
    show(name + ", streamed", [c.model_dump() for c in client.completions.create(**args, stream=True)])


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
chat("two choices", n=2)
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
