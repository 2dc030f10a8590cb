"""Renders chats as vLLM does where it uses no Jinja template, for tests to compare with.

Reads JSON lines {"engine": ..., ...} and answers each with {"ids": [...]}, {"text": ...}
or {"error": ...}; with "text": true in the line, all with the text. The code that answers is vLLM's own, with the libraries that it uses:
run this with the Python of an environment that has vllm 0.32.0 (the tests' own will do).
Only what drags in the whole engine is replaced by stand-ins, so that it starts at once.

  {"engine": "harmony", "request": <chat request>, "date": "2026-11-23"}
  {"engine": "deepseek_v32" | "deepseek_v4", "request": <chat request>}
  {"engine": "mistral", "model": <tokenizer file>, "request": <chat request>}

Called with --models DIR, writes the folders of Mistral models to test with there, from
the tokenizers that mistral-common ships, and prints their names.
"""

import copy
import importlib.util
import json
import pathlib
import sys
import types


def stand_in(name, **members):
    module = types.ModuleType(name)
    module.__path__ = []
    for key, value in members.items():
        setattr(module, key, value)
    sys.modules[name] = module
    return module


class _Anything:
    """Stands for a class that is only named."""


def vllm_folder():
    spec = importlib.util.find_spec("vllm")
    return pathlib.Path(list(spec.submodule_search_locations)[0])


def load(folder, path):
    """Imports one file of vLLM under its own name."""
    name = "vllm." + path.replace("/", ".").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, folder / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class _Logger:
    def __getattr__(self, _):
        return lambda *a, **k: None


class ToolParam:
    """A tool of a request, as vLLM's model of it holds one."""

    def __init__(self, tool):
        function = tool["function"]
        self.type = tool.get("type", "function")
        self.function = types.SimpleNamespace(
            name=function["name"],
            description=function.get("description"),
            parameters=function.get("parameters"),
        )


class Engines:
    def __init__(self):
        folder = vllm_folder()
        envs = types.SimpleNamespace(
            VLLM_GPT_OSS_HARMONY_SYSTEM_INSTRUCTIONS=False, VLLM_SYSTEM_START_DATE=None
        )
        self.envs = envs
        stand_in("vllm", envs=envs)
        stand_in("vllm.logger", init_logger=lambda _: _Logger())
        for name in ("entrypoints", "entrypoints.openai", "entrypoints.openai.parser", "renderers", "tokenizers",
                     "entrypoints.openai.chat_completion"):
            stand_in("vllm." + name)
        stand_in("vllm.renderers.chat_utils", ChatCompletionMessageParam=dict)
        stand_in("vllm.entrypoints.openai.chat_completion.protocol",
                 ChatCompletionToolsParam=ToolParam, ChatCompletionRequest=dict)
        stand_in("vllm.tokenizers.protocol", TokenizerLike=_Anything)
        stand_in("vllm.tokenizers.hf", HfTokenizer=_Anything, get_cached_tokenizer=lambda t: t)
        stand_in("transformers", TokenizersBackend=_Anything, BatchEncoding=_Anything)
        stand_in("transformers.tokenization_mistral_common", MistralCommonBackend=_Anything)
        stand_in("openai.types.responses.tool", Tool=_Anything)
        load(folder, "exceptions.py")
        self.harmony_utils = load(folder, "entrypoints/openai/parser/harmony_utils.py")
        load(folder, "tokenizers/deepseek_v32_encoding.py")
        load(folder, "tokenizers/deepseek_v4_encoding.py")
        self.deepseek = {
            "deepseek_v32": load(folder, "tokenizers/deepseek_v32.py").get_deepseek_v32_tokenizer,
            "deepseek_v4": load(folder, "tokenizers/deepseek_v4.py").get_deepseek_v4_tokenizer,
        }
        self.mistral = load(folder, "tokenizers/mistral.py")
        self.mistral_tokenizers = {}

    def render_harmony(self, job):
        # As OnlineRenderer._make_request_with_harmony does.
        h = self.harmony_utils
        self.envs.VLLM_SYSTEM_START_DATE = job["date"]
        request = job["request"]
        effort = request.get("reasoning_effort")
        if effort == "none":
            raise ValueError("Harmony does not support reasoning_effort none")
        instructions, rest = h.extract_instructions_from_messages(normalized(request["messages"]))
        tools = request.get("tools")
        if tools is not None:
            tools = [ToolParam(t) for t in tools]
        messages = h.build_harmony_preamble(
            instructions=instructions, tools=tools, reasoning_effort=effort, with_custom_tools=tools is not None
        )
        messages.extend(h.parse_chat_inputs_to_harmony_messages(rest))
        ids = h.render_for_completion(messages)
        return {"text": h.get_encoding().decode(ids)} if job.get("text") else {"ids": ids}

    def render_deepseek(self, job):
        class Tokenizer:
            def get_added_vocab(self):
                return {}

        request = job["request"]
        tokenizer = self.deepseek[job["engine"]](Tokenizer())
        messages = prepared(normalized(request["messages"]), parts=job["engine"] == "deepseek_v4")
        kwargs = {"tools": dumped(request.get("tools")), **(request.get("chat_template_kwargs") or {})}
        effort = request.get("reasoning_effort")
        if effort is not None:
            kwargs["reasoning_effort"] = effort
            kwargs.setdefault("enable_thinking", effort != "none")
        text = tokenizer.apply_chat_template(messages, tokenize=False, **kwargs)
        return {"text": text}

    def render_mistral(self, job):
        from mistral_common.protocol.instruct.request import ChatCompletionRequest
        from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

        name = job["model"]
        if name not in self.mistral_tokenizers:
            self.mistral_tokenizers[name] = MistralTokenizer.from_file(name)
        tokenizer = self.mistral_tokenizers[name]
        body = job["request"]
        request = types.SimpleNamespace(
            messages=normalized(body["messages"]),
            chat_template=None,
            chat_template_kwargs=body.get("chat_template_kwargs"),
            reasoning_effort=body.get("reasoning_effort"),
        )
        self.mistral.maybe_serialize_tool_calls(request)
        self.mistral.truncate_tool_call_ids(request)
        self.mistral.validate_request_params(request)

        # What transformers' MistralCommonBackend does with text.
        def encode(conversation, tools, continue_final_message, reasoning_effort=None, **_):
            chat = ChatCompletionRequest.from_openai(
                messages=[without_untyped(m) for m in conversation],
                tools=tools, continue_final_message=continue_final_message, reasoning_effort=reasoning_effort,
            )
            return tokenizer.encode_chat_completion(chat).tokens

        engine = types.SimpleNamespace(
            version=int(tokenizer.version.value.removeprefix("v")),
            transformers_tokenizer=types.SimpleNamespace(apply_chat_template=encode),
        )
        ids = self.mistral.MistralTokenizer.apply_chat_template(
            engine, request.messages, dumped(body.get("tools")),
            add_generation_prompt=body.get("add_generation_prompt", True),
            continue_final_message=body.get("continue_final_message", False),
            reasoning_effort=body.get("reasoning_effort"),
        )
        if job.get("text"):
            return {"text": tokenizer.decode(ids, special_token_policy=SpecialTokenPolicy.KEEP)}
        return {"ids": ids}

    def answer(self, job):
        if job["engine"] == "harmony":
            return self.render_harmony(job)
        if job["engine"] == "mistral":
            return self.render_mistral(job)
        return self.render_deepseek(job)


def normalized(messages):
    """ChatCompletionRequest._normalize_messages_before."""
    messages = copy.deepcopy(messages)
    for m in messages:
        old = m.pop("reasoning_content", None)
        if old is not None and m.get("reasoning") is None:
            m["reasoning"] = old
    return messages


def prepared(messages, parts):
    """What vLLM's parse_chat_messages makes of messages with text."""
    out = []
    for m in messages:
        content = m.get("content")
        if content is None:
            content = []
        elif isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if m["role"] == "system":
            content = without_billing(content)
        texts = "\n".join(part["text"] for part in content if part["text"] or parts)
        made = {"role": m["role"], "content": content if parts and m["role"] != "tool" else texts}
        if m["role"] == "assistant":
            calls = copy.deepcopy(m.get("tool_calls") or [])
            for call in calls:
                arguments = call["function"].get("arguments") or "{}"
                try:
                    arguments = json.loads(arguments)
                except ValueError:
                    arguments = {}
                call["function"]["arguments"] = arguments if isinstance(arguments, dict) else {}
            if calls:
                made["tool_calls"] = calls
            if m.get("reasoning") is not None:
                made["reasoning"] = m["reasoning"]
        if m["role"] == "tool" and "tool_call_id" in m:
            made["tool_call_id"] = m["tool_call_id"]
        if m["role"] == "developer":
            made["tools"] = m.get("tools")
        if isinstance(m.get("task"), str):
            made["task"] = m["task"]
        out.append(made)
    return out


def without_billing(content):
    """Takes away the line that Claude Code puts before its system prompt."""
    out = []
    for part in content:
        text = part["text"]
        if text.startswith("x-anthropic-billing-header"):
            text = text.partition("\n")[2]
            if not text:
                continue
        out.append({**part, "text": text})
    return out


def dumped(tools):
    """Tools as vLLM's model of them dumps them: absent fields are there."""
    if tools is None:
        return None
    fields = ("name", "description", "parameters")
    return [{"type": "function", "function": {f: t["function"].get(f) for f in fields}} for t in tools]


def without_untyped(message):
    content = message.get("content")
    if not content or isinstance(content, str):
        return message
    return {**message, "content": [part for part in content if part.get("type")]}


def write_models(folder):
    """Writes a folder for each version of Mistral's tokenizers. mistral-common ships
    SentencePiece models of four versions and Tekken files of version 3; the files of
    later versions are made of those, with their special tokens."""
    import mistral_common
    from mistral_common.tokens.tokenizers.base import SpecialTokens
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    data = pathlib.Path(mistral_common.__file__).parent / "data"
    for source in sorted(data.glob("*.model.v*")):
        version = source.name.rsplit(".", 1)[1]
        if "m" in version:
            continue  # the same for text
        model = folder / f"spm-{version}"
        model.mkdir()
        (model / f"tokenizer.model.{version}").write_bytes(source.read_bytes())
        (model / "tokenizer.json").write_text(json.dumps(hugging_face(source)))
        print(model / f"tokenizer.model.{version}")
    tekken = json.loads((data / "tekken_240718.json").read_text())
    tekken["vocab"] = tekken["vocab"][:20000]
    tekken["config"]["default_vocab_size"] = 21000
    names = [t["token_str"] for t in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]
    names += [t.value for t in SpecialTokens if t.value not in names]
    for version in ("v3", "v7", "v11", "v13", "v15"):
        tekken["config"]["version"] = version
        if version != "v3":
            tekken["special_tokens"] = [
                {"rank": i, "token_str": name, "is_control": True} for i, name in enumerate(names)
            ]
        if version == "v15":
            effort = {"type": "enum", "values": ["none", "high"], "accepts_none": True, "default": "none"}
            tekken["model_settings_builder"] = {"reasoning_effort": effort}
        model = folder / f"tekken-{version}"
        model.mkdir()
        (model / "tekken.json").write_text(json.dumps(tekken))
        print(model / "tekken.json")


def hugging_face(source):
    """A SentencePiece BPE model as a tokenizer.json."""
    import sentencepiece

    sp = sentencepiece.SentencePieceProcessor(model_file=str(source))
    pieces = [sp.id_to_piece(i) for i in range(sp.get_piece_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for i, piece in enumerate(pieces):
        if sp.IsControl(i) or sp.IsByte(i) or sp.IsUnknown(i):
            continue
        splits = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
        splits = [(a, b) for a, b in splits if a in vocab and b in vocab]
        merges += [(-sp.get_score(i), vocab[a], vocab[b], a, b) for a, b in splits]
    merges.sort()
    added = [
        {"id": i, "content": piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, piece in enumerate(pieces) if sp.IsControl(i) or sp.IsUnknown(i)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": vocab, "merges": [[a, b] for *_, a, b in merges],
        },
    }


def main():
    if sys.argv[1:2] == ["--models"]:
        write_models(pathlib.Path(sys.argv[2]))
        return
    engines = Engines()
    for line in sys.stdin:
        try:
            answer = engines.answer(json.loads(line))
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"[:300]}
        print(json.dumps(answer), flush=True)


main()
