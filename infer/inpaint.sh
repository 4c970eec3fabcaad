#!/usr/bin/env bash
# Inpaints the rows of a CSV. Change the variables here, or set them where it is called:
#     engine=propagation inpainting_mask_meta=my.csv data_dir=my bash infer/inpaint.sh
# Paths count from this folder. Rows that are done are skipped; see videopainter/batch/rows.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${engine:=videopainter}"          # videopainter, propainter, e2fgvi, dstt, propagation, or auto
: "${model_path:=../ckpt/CogVideoX-5b-I2V}"
: "${inpainting_branch:=../ckpt/VideoPainter/checkpoints/branch}"
: "${id_adapter:=}"                  # ../ckpt/VideoPainterID/checkpoints for long videos, with prev_clip_weight=0.5
: "${img_inpainting_model:=}"        # ../ckpt/flux_inp for first frames by FLUX

: "${num_inference_steps:=50}"
: "${guidance_scale:=6.0}"
: "${dilate_size:=}"                 # pixels; empty: what suits the engine
: "${inpainting_frames:=49}"         # frames the network sees at once
: "${overlap_frames:=}"              # frames that two such windows share; empty: what suits the engine
: "${prev_clip_weight:=0.0}"         # how much a window heeds the one before, 0 to 1
: "${down_sample_fps:=}"             # at most so many frames a second, 0 for all; empty: what suits the engine
: "${seed:=42}"

: "${data_dir:=../data}"             # the folder with videovo/, pexels/ and video_inpainting/, or your clips
: "${inpainting_mask_meta:=$data_dir/pexels_videovo_test_dataset.csv}"
: "${prompt:=}"                      # instead of the captions, in every row
: "${inpainting_sample_ids:=}"       # START:END, only these rows
: "${output_base_path:=../output/inp_$engine}"

: "${num_processes:=1}"              # one a GPU, perhaps
# On several machines that see the same folders start this on each of them: they share the rows.
: "${python:=python}"

arguments=(
    --csv "$inpainting_mask_meta" --data_dir "$data_dir" --output_dir "$output_base_path"
    --engine "$engine" --seed "$seed"
)
names="dilate_size down_sample_fps prompt"
case "$engine" in
    videopainter | auto)
        names="$names model_path inpainting_branch id_adapter img_inpainting_model num_inference_steps"
        names="$names guidance_scale inpainting_frames overlap_frames prev_clip_weight"
        ;;
esac
for name in $names; do
    if [ -n "${!name}" ]; then arguments+=("--$name" "${!name}"); fi
done
if [ -n "$inpainting_sample_ids" ]; then arguments+=(--rows "$inpainting_sample_ids"); fi

export PYTORCH_CUDA_ALLOC_CONF="${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}"
exec "$python" inpaint.py "${arguments[@]}" --processes "$num_processes"
