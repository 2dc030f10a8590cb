"""Holds a two-turn streamed conversation through the gateway with the official
Python client, and provokes the typed errors. Prints one JSON object."""
import json
import sys

import openai

base, model = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=base + "/v1", api_key="unused", max_retries=0)
out = {"models": [m.id for m in client.models.list()]}


def turn(messages):
    text, usage, finish = "", None, None
    stream = client.chat.completions.create(
        model=model, messages=messages, max_tokens=24, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        if chunk.usage:
            usage = chunk.usage
        for c in chunk.choices:
            text += c.delta.content or ""
            finish = c.finish_reason or finish
    return text, {
        "finish": finish,
        "completion": usage.completion_tokens,
        "prompt": usage.prompt_tokens,
        "cached": usage.prompt_tokens_details.cached_tokens,
    }


messages = [{"role": "user", "content": "Python asks: name three rivers, then three mountains, and say why each is known. " * 4}]
answer, out["turn1"] = turn(messages)
messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And now three lakes."}]
answer2, out["turn2"] = turn(messages)
out["text"] = answer + answer2

unary = client.chat.completions.create(model=model, messages=messages[:1], max_tokens=24, temperature=0)
out["unary_equals_stream"] = unary.choices[0].message.content == answer
legacy = client.completions.create(model=model, prompt="One two three", max_tokens=4, temperature=0)
out["completion_tokens"] = legacy.usage.completion_tokens


def error(**kw):
    args = {"model": model, "messages": [{"role": "user", "content": "x"}], **kw}
    try:
        client.chat.completions.create(**args)
    except openai.APIStatusError as e:
        return {"class": type(e).__name__, "status": e.status_code, "code": e.code, "param": e.param, "type": e.type}
    return None


out["bad_request"] = error(temperature="hot")
out["bad_messages"] = error(messages=[])
out["wrong_model"] = error(model="no-such-model")
out["oversized"] = error(messages=[{"role": "user", "content": "word " * 60000}])
print(json.dumps(out))
