#!/usr/bin/env bash
# Changes things in rows of a CSV, each as an instruction says. Change the variables here, or set them where it is called:
#     inpainting_sample_ids="79 80" video_editing_instructions="Change the lamp into a small tree.
#     Make the car red." bash infer/edit.sh
# Paths count from this folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${engine:=videopainter}"
: "${model_path:=../ckpt/CogVideoX-5b-I2V}"
: "${inpainting_branch:=../ckpt/VideoPainter/checkpoints/branch}"
: "${inpainting_branches:=$inpainting_branch}" # the first of them
: "${id_adapter_resample_learnable_path:=}" # ../ckpt/VideoPainterID/checkpoints for long videos
: "${lora_rank:=}"                   # that adapters have to have; empty: any
: "${dtype:=}"                       # bfloat16, float16, float32; empty: what suits the device
: "${img_inpainting_model:=}"        # ../ckpt/flux_inp for first frames by FLUX
: "${num_inference_steps:=50}"
: "${guidance_scale:=6.0}"
: "${num_videos_per_prompt:=1}"
: "${llm_model:=None}"               # none is asked: the instruction and the caption say what comes
: "${dilate_size:=48}"
: "${inpainting_frames:=49}"
: "${overlap_frames:=}"              # frames that two windows of a long video share; empty: what suits the engine
: "${down_sample_fps:=8}"
: "${prev_clip_weight:=0.0}"
: "${seed:=42}"
: "${inpainting_sample_ids:=79}"     # rows, parted by blanks
: "${video_editing_instructions:=Change the lamp into a small tree.}" # one a line, as many as rows; or one for all
: "${captions:=}"                    # a folder with ROW.json, in place of instructions
: "${image_or_video_path:=../data/videovo/raw_video}"
: "${data_kind:=test}"                # test, val or train: which of the published tables
case "$data_kind" in test | val | train) ;; *)
    echo "edit.sh: data_kind is test, val or train, not '$data_kind'." >&2
    exit 2 ;;
esac
: "${inpainting_mask_meta:=../data/pexels_videovo_${data_kind}_dataset.csv}"
: "${output_base_path:=../output/edit_fps${down_sample_fps}_dilate_${dilate_size}}"
: "${python:=python}"

arguments=(--inpainting_mask_meta "$inpainting_mask_meta" --image_or_video_path "$image_or_video_path" --engine "$engine")
arguments+=(--llm_model "$llm_model" --num_videos_per_prompt "$num_videos_per_prompt" --dilate_size "$dilate_size")
arguments+=(--down_sample_fps "$down_sample_fps" --seed "$seed" --first_frame_gt --replace_gt --mask_add)
read -r inpainting_branch _ <<< "$inpainting_branches"
names="model_path inpainting_branch id_adapter_resample_learnable_path lora_rank dtype img_inpainting_model num_inference_steps guidance_scale"
names="$names inpainting_frames overlap_frames prev_clip_weight"
if [ "$engine" != videopainter ]; then names=""; fi
for name in $names; do
    if [ -n "${!name}" ]; then arguments+=("--$name" "${!name}"); fi
done

read -r -a rows <<< "$inpainting_sample_ids"
mapfile -t instructions <<< "$video_editing_instructions"
if [ -z "$captions" ] && [ "${#instructions[@]}" -ne 1 ] && [ "${#instructions[@]}" -ne "${#rows[@]}" ]; then
    echo "edit.sh: there are ${#instructions[@]} instructions for ${#rows[@]} rows; one each or one for all is needed." >&2
    exit 2
fi
for ((i = 0; i < ${#rows[@]}; i++)); do
    row="${rows[i]}"
    if [ -n "$captions" ]; then
        what=(--captions "$captions/$row.json")
    else
        instruction="${instructions[${#instructions[@]} > 1 ? i : 0]}"
        what=(--video_editing_instruction "${instruction#"${instruction%%[![:space:]]*}"}")
    fi
    "$python" edit.py "${arguments[@]}" --inpainting_sample_id "$row" --output_path "$output_base_path/$row.mp4" "${what[@]}"
done
