"""Validation: a few clips inpainted by the pipeline with the weights as they are, and how near they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from videopainter.diffusion.pipeline import VideoPainterPipeline
from videopainter.diffusion.training.data import Sample
from videopainter.diffusion.training.trainer import Trainer
from videopainter.video import VideoWriter

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, float]]  # result, truth, masks -> scores


def validation(samples: list[Sample], embeds: Callable[[str], torch.Tensor], output: Path, measure: Measure):
    """A function for `Trainer.run`: inpaints `samples` into ``output/validation``, and returns mean scores."""

    def validate(trainer: Trainer) -> dict[str, float]:
        networks, config = trainer.networks, trainer.config
        pipe = VideoPainterPipeline(
            None, None, networks.vae, networks.transformer, networks.scheduler, networks.branch
        )
        pipe.set_progress_bar_config(disable=True)
        training = trainer.plain.training
        trainer.plain.eval()
        scores: list[dict[str, float]] = []
        try:
            for number, sample in enumerate(samples):
                frames = _inpainted(pipe, sample, embeds, config)
                truth = _pixels(sample.video)
                masks = sample.mask[:, 0].numpy() > 0
                scores.append(measure(frames, truth, masks))
                if not trainer.accelerator.is_main_process:
                    continue
                folder = output / "validation"
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{trainer.step:06d}_{number}.mp4"
                with VideoWriter(path, fps=config.fps or 8, size=frames.shape[1:3]) as file:
                    file.write(frames)
        finally:
            trainer.plain.train(training)
        return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}

    return validate


def _inpainted(pipe: VideoPainterPipeline, sample: Sample, embeds, config) -> np.ndarray:
    dtype = pipe.transformer.dtype
    keeps = config.first_frame_gt and len(sample.video) > 1
    arguments = {"image": sample.video[0].clamp(-1, 1) / 2 + 0.5} if keeps else {}
    parts = pipe(
        video=sample.video / 2 + 0.5,
        masks=sample.mask[:, 0].numpy() > 0,
        prompt_embeds=embeds(sample.prompt)[None].to(pipe.transformer.device, dtype),
        negative_prompt_embeds=embeds("")[None].to(pipe.transformer.device, dtype),
        height=config.height,
        width=config.width,
        window=max(5, len(sample.video)),
        num_inference_steps=config.validation_inference_steps,
        mask_add=config.mask_add,
        add_first=config.add_first,
        wo_text=config.wo_text,
        id_pool=config.resample,
        generator=torch.Generator().manual_seed(config.seed),
        output_type="np",
        **arguments,
    ).frames[0]
    return np.rint(parts * 255).astype(np.uint8)


def _pixels(video: torch.Tensor) -> np.ndarray:
    """uint8 ``(frames, height, width, 3)``."""
    return ((video + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
