#!/usr/bin/env bash
# Inpaints the rows of a CSV. Change the variables here, or set them where it is called:
#     engine=propagation inpainting_mask_meta=my.csv data_dir=my bash infer/inpaint.sh
# Paths count from this folder. Rows that are done are skipped; see videopainter/batch/rows.py. The variables are those of
# the published script, and more; what cannot be done is said in one sentence.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${engine:=videopainter}"          # videopainter, propainter, e2fgvi, dstt, propagation, or auto
: "${model_path:=../ckpt/CogVideoX-5b-I2V}"
: "${inpainting_branch:=../ckpt/VideoPainter/checkpoints/branch}"
: "${inpainting_branches:=$inpainting_branch}" # several, parted by blanks: each with an output folder of its own
: "${id_adapter:=}"                  # ../ckpt/VideoPainterID/checkpoints for long videos, with prev_clip_weight=0.5
: "${id_adapter_resample_learnable_path:=$id_adapter}" # the same under its published name
: "${lora_path:=}"                   # one more adapter
: "${lora_rank:=}"                   # that adapters have to have; empty: any
: "${dtype:=}"                       # bfloat16, float16, float32; empty: what suits the device
: "${img_inpainting_model:=}"        # ../ckpt/flux_inp for first frames by FLUX

: "${num_inference_steps:=50}"
: "${guidance_scale:=6.0}"
: "${dilate_size:=}"                 # pixels; empty: what suits the engine
: "${inpainting_frames:=49}"         # frames the network sees at once
: "${overlap_frames:=}"              # frames that two such windows share; empty: what suits the engine
: "${prev_clip_weight:=0.0}"         # how much a window heeds the one before, 0 to 1
: "${down_sample_fps:=}"             # at most so many frames a second, 0 for all; empty: what suits the engine
: "${seed:=42}"
: "${num_videos_per_prompt:=1}"      # more: each with the next seed, and an output folder of its own
: "${llm_model:=None}"               # none is asked: first_frame_prompt says what the first frame shows
: "${first_frame_prompt:=}"          # what FLUX is to show; empty: the prompt

: "${image_or_video_path:=}"         # .../videovo/raw_video, which says where data_dir is
: "${data_dir:=}"                    # the folder with videovo/, pexels/ and video_inpainting/, or your clips
if [ -z "$data_dir" ]; then
    case "$image_or_video_path" in
        "") data_dir=../data ;;
        */videovo/raw_video | */videovo/raw_video/) data_dir="${image_or_video_path%/videovo/raw_video*}" ;;
        *) echo "inpaint.sh: image_or_video_path '$image_or_video_path' does not end in videovo/raw_video; set data_dir." >&2
            exit 2 ;;
    esac
fi
: "${data_kind:=test}"               # test, val or train: which of the published tables
case "$data_kind" in test | val | train) ;; *)
    echo "inpaint.sh: data_kind is test, val or train, not '$data_kind'." >&2
    exit 2 ;;
esac
: "${inpainting_mask_meta:=$data_dir/pexels_videovo_${data_kind}_dataset.csv}"
: "${prompt:=}"                      # instead of the captions, in every row
: "${inpainting_sample_ids:=}"       # START:END, only these rows
: "${output_base_path:=../output/inp_$engine}"

: "${num_processes:=1}"              # one a GPU, perhaps
# On several machines that see the same folders start this on each of them: they share the rows.
: "${python:=python}"

arguments=(--csv "$inpainting_mask_meta" --data_dir "$data_dir" --engine "$engine" --llm_model "$llm_model")
names="dilate_size down_sample_fps prompt"
case "$engine" in
    videopainter | auto)
        names="$names model_path id_adapter_resample_learnable_path lora_path lora_rank dtype img_inpainting_model"
        names="$names first_frame_prompt num_inference_steps guidance_scale inpainting_frames overlap_frames"
        names="$names prev_clip_weight"
        ;;
    *) inpainting_branches=none ;;
esac
for name in $names; do
    if [ -n "${!name}" ]; then arguments+=("--$name" "${!name}"); fi
done
if [ -n "$inpainting_sample_ids" ]; then arguments+=(--rows "$inpainting_sample_ids"); fi

export PYTORCH_CUDA_ALLOC_CONF="${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}"
launcher=("$python" inpaint.py)
arguments+=(--processes "$num_processes")

read -r -a branches <<< "$inpainting_branches"
status=0
for branch in "${branches[@]}"; do
    for ((copy = 0; copy < num_videos_per_prompt; copy++)); do
        output="$output_base_path"
        if [ "${#branches[@]}" -gt 1 ]; then output="${output}_$(basename "$(dirname "$branch")")_$(basename "$branch")"; fi
        if [ "$copy" -gt 0 ]; then output="${output}_$copy"; fi
        more=(--output_dir "$output" --seed $((seed + copy)))
        if [ "$branch" != none ]; then more+=(--inpainting_branch "$branch"); fi
        if [ $((${#branches[@]} * num_videos_per_prompt)) -eq 1 ]; then
            exec "${launcher[@]}" "${arguments[@]}" "${more[@]}"
        fi
        "${launcher[@]}" "${arguments[@]}" "${more[@]}" &
        trap "kill -TERM $!" TERM
        wait $! || status=$?
        if [ "$status" -gt 1 ]; then exit "$status"; fi # rows that failed do not stop the others
    done
done
exit "$status"
