// The same as same.py with the official Node client.
import OpenAI from "openai";

const [base, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base + "/v1", apiKey: "unused", maxRetries: 0 });
const user = [{ role: "user", content: "Name three mountains of Norway, and say why each is known. ".repeat(6) }];
const tools = [{
  type: "function",
  function: {
    name: "weather", description: "The weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
}];

const fresh = new Set(["id", "created", "request_id"]); // new each time
const show = (name, answer) => console.log(JSON.stringify({ [name]: answer }, (k, v) => (fresh.has(k) ? undefined : v)));

// A stream as one chunk: vLLM sends as many tokens in one as it has by then, so
// that where it cuts is a matter of time.
async function joined(stream) {
  let whole;
  for await (const chunk of stream) whole = merge(undefined, whole, chunk);
  return whole;
}

const pieces = new Set(["content", "text", "arguments", "reasoning"]);

function merge(key, a, b) {
  if (a == null || b == null) return a ?? b;
  if (Array.isArray(a)) {
    if (![...a, ...b].every((e) => e?.index !== undefined)) return [...a, ...b];
    const byIndex = new Map(a.map((e) => [e.index, e]));
    for (const e of b) byIndex.set(e.index, merge(undefined, byIndex.get(e.index), e));
    return [...byIndex.values()];
  }
  if (typeof a === "object") {
    return Object.fromEntries(Object.keys({ ...a, ...b }).map((k) => [k, merge(k, a[k], b[k])]));
  }
  return pieces.has(key) ? a + b : b;
}

async function chat(name, args = {}) {
  args = { model, messages: user, max_tokens: 24, temperature: 0, ...args };
  show(name, await client.chat.completions.create(args));
  show(name + ", streamed", await joined(await client.chat.completions.create({ ...args, stream: true, stream_options: { include_usage: true } })));
}

async function completion(name, args = {}) {
  args = { model, prompt: "One two three", max_tokens: 12, temperature: 0, ...args };
  show(name, await client.completions.create(args));
  show(name + ", streamed", await joined(await client.completions.create({ ...args, stream: true })));
}

async function error(name, args) {
  try {
    await client.chat.completions.create({ model, messages: user, max_tokens: 4, ...args });
    show(name, "no error");
  } catch (e) {
    show(name, { class: e.constructor.name, status: e.status, type: e.type, param: e.param, message: e.message });
  }
}

await chat("chat");
await chat("logprobs", { logprobs: true, top_logprobs: 3 });
await chat("stop", { stop: ["mountain"] });
await chat("tools", { tools });
await chat("a named tool", { tools, tool_choice: { type: "function", function: { name: "weather" } }, max_tokens: 40 });
await completion("completion");
await completion("completion with logprobs", { logprobs: 2 });
await error("temperature", { temperature: 9 });
await error("logprobs", { logprobs: true, top_logprobs: 10000 });
