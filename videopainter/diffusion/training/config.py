"""What a training run does; nothing else decides its result. Defaults are the published ones where there are any."""

from __future__ import annotations

from dataclasses import dataclass, replace

from videopainter.engines.base import option

KINDS = ("branch", "adapter", "personal")
SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
OPTIMIZERS = ("adamw", "adam", "adamw_fused", "adamw_8bit", "adam_8bit", "prodigy")


@dataclass(frozen=True)
class TrainingConfig:
    """A training run; the help texts are the flags'. Raises ValueError, one sentence, for what cannot be."""

    kind: str = "branch"
    # clips
    height: int = option(480, "of the training clips", metavar="PIXELS")
    width: int = option(720, "of the training clips", metavar="PIXELS")
    fps: float = option(8.0, "frames a second of the training clips; 0: the videos' own", metavar="FPS")
    frames: tuple[int, ...] = option(
        (49,),
        "of a clip: 1, 5, 9, ...; several are buckets",
        aliases=("max_num_frames",),
        metavar="N,...",
    )
    resize: str = option(
        "resize",
        "squeeze the picture, or cut out its middle or any part: resize, center, random",
        aliases=("video_reshape_mode",),
    )
    random_flip: bool = option(False, "half of the clips are seen in a mirror")
    min_caption: int = option(0, "letters that a caption needs (published: 50)", metavar="N")
    # masks
    mask_transform_prob: float = option(
        0.3, "share of the given masks that are changed at random", metavar="P"
    )
    p_brush: float = option(0.4, "of those: grown and shrunk", metavar="P")
    p_rect: float = option(0.1, "of those: rectangles in their place", metavar="P")
    p_ellipse: float = option(0.1, "of those: ellipses in their place", metavar="P")
    p_circle: float = option(0.1, "of those: circles in their place", metavar="P")
    p_random_brush: float = option(0.3, "of those: free strokes", metavar="P")
    margin_ratio: float = option(
        0.1, "by which such shapes reach out at most, of the picture's side", metavar="R"
    )
    shape_scale_min: float = option(1.1, "least size of such shapes, of the mask's", metavar="S")
    shape_scale_max: float = option(1.5, "largest size of such shapes, of the mask's", metavar="S")
    mask_count: int = option(2, "shapes at most, where a clip has no masks", metavar="N")
    mask_scale: tuple[float, ...] = option((0.1, 0.5), "their sides, of the picture's", metavar="MIN,MAX")
    mask_motion: float = option(0.3, "way they go in a clip at most, of the picture's side", metavar="R")
    mask_growth: float = option(0.3, "by which they grow or shrink in a clip at most", metavar="R")
    mask_background: bool = option(False, "inpaint everything but the masks")
    # what is learned
    first_frame_gt: bool = option(True, "the first frame is known, as in inference with a finished one")
    first_frame: str = option(
        "complete",
        "what the transformer sees as first frame: complete, as published, or masked, as in inference",
    )
    hole: str = option(
        "black", "the masked video's value in the hole: black, as published, or grey, as in inference"
    )
    mask_add: bool = option(True, "the branch works outside the hole only")
    add_first: bool = option(False, "the branch works on the transformer's first blocks only")
    wo_text: bool = option(False, "no text in the branch")
    id_pool: bool = option(True, "of an adapter: ID resampling", aliases=("id_pool_resample_learnable",))
    proportion_empty_prompts: float = option(0.0, "share of the clips without text", metavar="P")
    noised_image_dropout: float = option(0.05, "share of the clips without a first frame", metavar="P")
    inpainting_loss_weight: float = option(1.0, "of the loss in the hole, besides the whole's", metavar="W")
    branch_layer_num: int = option(2, "layers of a new branch", metavar="N")
    rank: int = option(256, "of an adapter", metavar="N")
    lora_alpha: float = option(128.0, "of an adapter; its strength is this over the rank", metavar="A")
    # how
    steps: int = option(1000, "updates", aliases=("max_train_steps",), metavar="N")
    batch_size: int = option(1, "clips side by side in a process", aliases=("train_batch_size",), metavar="N")
    accumulation: int = option(
        1, "batches of an update", aliases=("gradient_accumulation_steps",), metavar="N"
    )
    learning_rate: float = option(1e-5, "(of adapters, published: 5e-5)", metavar="LR")
    lr_scheduler: str = option("cosine_with_restarts", f"of the learning rate: {', '.join(SCHEDULES)}")
    lr_warmup_steps: int = option(1000, "updates over which it grows", metavar="N")
    lr_num_cycles: int = option(1, "of cosine_with_restarts", metavar="N")
    lr_power: float = option(1.0, "of polynomial", metavar="P")
    scale_lr: bool = option(False, "the learning rate is for one clip; an update of more has so much more")
    optimizer: str = option(
        "adamw", f"{', '.join(OPTIMIZERS)}; those of 8 bits need bitsandbytes, prodigy prodigyopt"
    )
    adam_beta1: float = option(0.9, "of the optimiser", metavar="B")
    adam_beta2: float = option(0.95, "of the optimiser", metavar="B")
    adam_weight_decay: float = option(1e-4, "of the optimiser", metavar="W")
    adam_epsilon: float = option(1e-8, "of the optimiser", metavar="E")
    prodigy_beta3: float = option(0.0, "of prodigy; 0: the root of adam_beta2", metavar="B")
    prodigy_decouple: bool = option(False, "of prodigy: weights decay as in AdamW")
    prodigy_use_bias_correction: bool = option(False, "of prodigy: as in Adam")
    prodigy_safeguard_warmup: bool = option(False, "of prodigy: no estimates from the updates of the warm-up")
    max_grad_norm: float = option(1.0, "largest norm of a gradient; 0: any", metavar="N")
    ema: float = option(
        0.0, "decay of the running mean of the weights, which then is the result; 0: none", metavar="D"
    )
    gradient_checkpointing: bool = option(False, "less memory for a third more time")
    mixed_precision: str = option("no", "no, bf16 or fp16")
    cache_latents: int = option(
        0,
        "encode so many cuts and masks of each clip once, and train on those; 0: new ones always",
        metavar="N",
    )
    seed: int = option(42, "of everything that is random", metavar="N")
    checkpointing_steps: int = option(256, "updates between checkpoints", metavar="N")
    checkpoints_total_limit: int = option(3, "checkpoints that are kept; 0: all", metavar="N")
    validating_steps: int = option(0, "updates between validations; 0: none", metavar="N")
    num_validation_videos: int = option(2, "clips of a validation", metavar="N")
    validation_inference_steps: int = option(50, "denoising steps of a validation", metavar="N")

    def __post_init__(self):
        for name in ("frames", "mask_scale"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, (list, tuple)) else (value,))
        choices = {
            "kind": KINDS,
            "resize": ("resize", "center", "random"),
            "first_frame": ("complete", "masked"),
            "hole": ("black", "grey"),
            "lr_scheduler": SCHEDULES,
            "optimizer": OPTIMIZERS,
            "mixed_precision": ("no", "bf16", "fp16"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"`{name}` is {', '.join(allowed[:-1])} or {allowed[-1]}, not {getattr(self, name)!r}."
                )
        for name in ("height", "width", "steps", "batch_size", "accumulation", "rank", "branch_layer_num", "mask_count",
                     "checkpointing_steps"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` has to be 1 or more, not {getattr(self, name)}.")
        if not self.frames or any(n < 1 or (n - 1) % 4 for n in self.frames):
            raise ValueError(f"`frames` have to be 1, 5, 9, ..., not {', '.join(map(str, self.frames))}.")
        shares = ("mask_transform_prob", "p_brush", "p_rect", "p_ellipse", "p_circle", "p_random_brush",
                  "proportion_empty_prompts", "noised_image_dropout", "ema")  # fmt: skip
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` has to be from 0 to 1, not {getattr(self, name)}.")
        if self.mask_transform_prob and abs(sum(self.mask_shares.values()) - 1) > 1e-6:
            raise ValueError(
                f"The shares of the changed masks have to sum to 1, not {sum(self.mask_shares.values()):g}."
            )
        if len(self.mask_scale) != 2 or not 0 < self.mask_scale[0] <= self.mask_scale[1] <= 1:
            raise ValueError(
                f"`mask_scale` has to be two numbers from 0 to 1, ascending, not {self.mask_scale}."
            )

    @property
    def mask_shares(self) -> dict[str, float]:
        """Ways of changing masks, and their shares."""
        kinds = ("brush", "rect", "ellipse", "circle", "random_brush")
        return {kind: getattr(self, f"p_{kind}") for kind in kinds}

    @property
    def resample(self) -> bool:
        """Whether the transformer resamples the hole's tokens in training."""
        return self.kind == "adapter" and self.id_pool


def preset(kind: str, **changes) -> TrainingConfig:
    """The published run of this kind; "personal": an adapter of one's own thing, from a dozen clips or pictures."""
    own = {
        "branch": {},
        "adapter": {"learning_rate": 5e-5, "lr_warmup_steps": 200},
        "personal": {
            "learning_rate": 1e-4,
            "lr_warmup_steps": 50,
            "lr_scheduler": "constant_with_warmup",
            "rank": 16,
            "lora_alpha": 16.0,
            "steps": 500,
        },
    }
    return replace(TrainingConfig(kind=kind, **own.get(kind, {})), **changes)
