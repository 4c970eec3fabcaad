#!/usr/bin/env bash
# The editing benchmark's layout: every ROW.json of a folder, as edit.sh or the published scripts write them, is an edit of
# that row. The variables are those of edit.sh, set where it is called:
#     captions=../data/edits bash infer/edit_bench.sh
set -euo pipefail
: "${captions:=../data/edits}" # seen from this folder
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cd "$here"
if [ ! -d "$captions" ]; then
    echo "edit_bench.sh: there is no folder '$captions' with ROW.json files." >&2
    exit 2
fi
rows=()
for path in "$captions"/*.json; do
    name="$(basename "$path" .json)"
    if [[ "$name" =~ ^[0-9]+$ ]]; then rows+=("$name"); fi
done
if [ "${#rows[@]}" -eq 0 ]; then
    echo "edit_bench.sh: there is no ROW.json in '$captions'." >&2
    exit 2
fi
export captions
export inpainting_sample_ids="${inpainting_sample_ids:-${rows[*]}}"
exec bash edit.sh
