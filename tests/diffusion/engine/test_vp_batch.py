"""Many clips with VideoPainter, through infer/inpaint.sh: weights loaded once, rows done are skipped."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_inpaint_sh(cpu, clip, tmp_path):
    rows = ["video,mask,prompt"] + [
        f"{clip.video.name},{clip.npz.name},{text}" for text in ("a red wall", "a dog")
    ]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    settings = {
        "engine": "videopainter",
        "model_path": str(cpu / "CogVideoX-5b-I2V"),
        "inpainting_branch": str(cpu / "VideoPainter/checkpoints/branch"),
        "id_adapter": str(cpu / "VideoPainterID/checkpoints"),
        "prev_clip_weight": "0.5",
        "num_inference_steps": "1",
        "inpainting_frames": "9",
        "down_sample_fps": "4",
        "data_dir": str(clip.video.parent),
        "inpainting_mask_meta": str(tmp_path / "clips.csv"),
        "output_base_path": str(tmp_path / "out"),
        "python": sys.executable,
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", str(ROOT / "infer/inpaint.sh")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Engine: videopainter") == 1
    records = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [(record["status"], record["frames"]) for record in records] == [("done", 7)] * 2
    assert len(list((tmp_path / "out").glob("*/result.mp4"))) == 2
