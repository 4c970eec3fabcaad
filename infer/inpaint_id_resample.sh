#!/usr/bin/env bash
# inpaint.sh with VideoPainter's ID adapter, which keeps an object the same over the windows of a long video. The
# variables are those of inpaint.sh, set where it is called.
set -euo pipefail
: "${id_adapter_resample_learnable_path:=../ckpt/VideoPainterID/checkpoints}"
: "${lora_rank:=256}"
: "${prev_clip_weight:=0.5}"
: "${output_base_path:=../output/inp_IP_${engine:-videopainter}}"
export id_adapter_resample_learnable_path lora_rank prev_clip_weight output_base_path
exec bash "$(dirname "${BASH_SOURCE[0]}")/inpaint.sh"
