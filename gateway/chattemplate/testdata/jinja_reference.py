"""The reference: Python's Jinja2, set up as transformers sets it up.

Reads one JSON object a line ({"template", "context"}) and writes one a line
({"output"} or {"error"}). The clock stands at 2026-11-23 07:08:09.
Needs jinja2==3.1.6.
"""
import datetime
import functools
import json
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2026, 11, 23, 7, 8, 9)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_generation")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(lineno)

    def _generation(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env


ENV = environment()


@functools.lru_cache(maxsize=256)
def compiled(template):
    return ENV.from_string(template)


def render(template, context):
    try:
        out = compiled(template).render(**context)
        out.encode()
        return {"output": out}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"[:300]}


if __name__ == "__main__":
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps(render(case["template"], case["context"])), flush=True)
