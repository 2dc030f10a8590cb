// The same as client.py with the official Node client. Prints one JSON object.
import OpenAI from "openai";

const [base, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base + "/v1", apiKey: "unused", maxRetries: 0 });
const out = { models: (await client.models.list()).data.map((m) => m.id) };

async function turn(messages) {
  let text = "", usage, finish;
  const stream = await client.chat.completions.create({
    model, messages, max_tokens: 24, temperature: 0, stream: true, stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    usage = chunk.usage ?? usage;
    for (const c of chunk.choices) {
      text += c.delta.content ?? "";
      finish = c.finish_reason ?? finish;
    }
  }
  return [text, {
    finish, completion: usage.completion_tokens, prompt: usage.prompt_tokens,
    cached: usage.prompt_tokens_details.cached_tokens,
  }];
}

const messages = [{ role: "user", content: "Node asks: name three rivers, then three mountains, and say why each is known. ".repeat(4) }];
const [answer, turn1] = await turn(messages);
messages.push({ role: "assistant", content: answer }, { role: "user", content: "And now three lakes." });
const [answer2, turn2] = await turn(messages);
Object.assign(out, { turn1, turn2, text: answer + answer2 });

const unary = await client.chat.completions.create({ model, messages: messages.slice(0, 1), max_tokens: 24, temperature: 0 });
out.unary_equals_stream = unary.choices[0].message.content === answer;
const legacy = await client.completions.create({ model, prompt: "One two three", max_tokens: 4, temperature: 0 });
out.completion_tokens = legacy.usage.completion_tokens;

async function error(args) {
  try {
    await client.chat.completions.create({ model, messages: [{ role: "user", content: "x" }], ...args });
  } catch (e) {
    return { class: e.constructor.name, status: e.status, code: e.code, param: e.param, type: e.type };
  }
  return null;
}

out.bad_request = await error({ temperature: "hot" });
out.bad_messages = await error({ messages: [] });
out.wrong_model = await error({ model: "no-such-model" });
out.oversized = await error({ messages: [{ role: "user", content: "word ".repeat(60000) }] });
console.log(JSON.stringify(out));
