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

smollm2=$("$here/../../deploy/fetch-model.sh") || { smollm2=""; lack SmolLM2 "answers of a real model, its tokens and its arithmetic"; }

require=${KVASIR_REQUIRE_ALL:-}
[ "${CI:-}" = true ] && require=1
{
	[ -n "$smollm2" ] && echo "export KVASIR_SMOLLM2='$smollm2'"
	[ -x "$venv/bin/python" ] && echo "export KVASIR_PYTHON='$venv/bin/python'"
	[ -d "$node/node_modules/openai" ] && echo "export KVASIR_NODE='$node'"
	[ -n "$require" ] && echo "export KVASIR_REQUIRE_ALL=1"
	:
} >"$env_file"

if [ -n "$missing" ] && [ -n "$require" ]; then
	echo "test-deps: everything is required here, and this is missing:$missing" >&2
	exit 1
fi
