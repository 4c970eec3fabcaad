"""What a training run does, as configuration: stages, losses, optimiser; nothing else decides the result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from videopainter.dstt.config import DSTTConfig, check_names, preset


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum.

    Args:
        name: of its checkpoint.
        steps: sequences of a batch that it goes through.
        layouts: of `data.LAYOUTS`, the folders it reads; empty: all folders given, of whatever layout.
        photos: whether photographs are set in motion as well (`generator.py`).
        footage_share: of the sequences that are real footage, where there is both.
        speed: times the usual motion.
        frames: of a sequence; the memory is handed from one to the next, without gradient.
        batch: sequences side by side; None: the run's.
    """

    name: str
    steps: int
    layouts: tuple[str, ...] = ()
    photos: bool = False
    footage_share: float = 0.5
    speed: float = 1.0
    frames: int = 5
    batch: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "layouts", tuple(self.layouts))
        if min(self.steps, self.frames, 1 if self.batch is None else self.batch) < 1:
            raise ValueError(f"steps, frames and batch of stage '{self.name}' need to be 1 or more.")


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults are the published ones where there are any.

    Args:
        network: the network's sizes.
        stages: in order.
        size: (height, width) of the training frames; None: the network's own.
        batch: sequences side by side.
        frames_per_update: frames whose gradients are added up for one step of the optimiser; 0: a sequence's.
        learning_rate, betas: of Adam.
        warm_up: updates over which the learning rate grows from 0.
        decay: whether it falls to 0 along half a cosine.
        clip: largest norm of a gradient; 0: no limit.
        average: decay of the running mean of the weights, which is what is kept; 0: the weights themselves.
        hole, valid: weights of the L1 loss in the hole and outside it.
        squared: weight of the squared error in the hole.
        decibels: weight of each hole's PSNR: a gain counts alike, however hard the picture.
        gradient: weight of the L1 loss of horizontal and vertical differences in the hole.
        steady: weight of the L1 difference to the aligned previous output in the hole where nothing was seen.
        travelling: share of the holes that travel across the picture.
        token_memory, use_previous: False leaves out one of the two paths from the past, for comparisons.
        mixed_precision: float16 on a GPU.
        seed: of everything that is random.
        validate_every: steps; also how often a checkpoint is written.
    """

    network: DSTTConfig
    stages: tuple[Stage, ...]
    size: tuple[int, int] | None = None
    batch: int = 2
    frames_per_update: int = 0
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.0, 0.99)
    warm_up: int = 0
    decay: bool = False
    clip: float = 0.0
    average: float = 0.0
    hole: float = 1.0
    valid: float = 1.0
    squared: float = 0.0
    decibels: float = 0.0
    gradient: float = 0.0
    steady: float = 0.0
    travelling: float = 0.0
    token_memory: bool = True
    use_previous: bool = True
    mixed_precision: bool = True
    seed: int = 0
    validate_every: int = 500

    def __post_init__(self):
        object.__setattr__(self, "stages", tuple(self.stages))
        for name in ("size", "betas"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.stages:
            raise ValueError("A training run needs one stage or more.")

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(height, width) of the training frames."""
        return self.size or self.network.size

    def stage_at(self, step: int) -> Stage:
        """The stage that step (from 0) belongs to."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        raise ValueError(f"There are {self.steps} steps, so none is number {step + self.steps}.")

    def updates_in(self, stage: Stage) -> int:
        """Steps of the optimiser in one sequence of that stage."""
        return -(-stage.frames // (self.frames_per_update or stage.frames))

    @property
    def updates(self) -> int:
        """Steps of the optimiser in all."""
        return sum(stage.steps * self.updates_in(stage) for stage in self.stages)

    def to_dict(self) -> dict:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        """From `to_dict`. Raises ValueError for a name that is not known."""
        check_names(cls, values, "training configuration")
        for stage in values["stages"]:
            check_names(Stage, stage, "stage of a training")
        network = DSTTConfig.from_dict(values["network"])
        return cls(**{**values, "network": network, "stages": tuple(Stage(**s) for s in values["stages"])})


def _shipped() -> TrainConfig:
    return TrainConfig(
        network=preset("small"),
        stages=(
            # Pictures alone first, which cost no alignment: what is behind a hole that nobody has seen.
            Stage("stage1", 1500, photos=True, footage_share=0.2, frames=1, batch=16),
            Stage("stage2", 900, photos=True, footage_share=0.5, frames=8),
            Stage("stage3", 100, photos=True, footage_share=0.5, speed=1.5, frames=12),
        ),
        size=(80, 128),
        batch=6,
        frames_per_update=2,
        learning_rate=1e-3,
        betas=(0.9, 0.99),
        warm_up=100,
        decay=True,
        clip=1.0,
        average=0.998,
        hole=1.0,
        valid=0.05,
        decibels=0.02,
        gradient=0.05,
        steady=0.02,
        travelling=0.6,
        validate_every=100,
    )


def _tiny() -> TrainConfig:
    return replace(
        _shipped(),
        network=preset("tiny"),
        stages=(Stage("stage1", 60, photos=True, frames=4),),
        size=None,
        frames_per_update=0,
        learning_rate=2e-3,
        warm_up=0,
        decay=False,
        average=0.0,
        validate_every=30,
    )


# An epoch of the published stages is counted in the sequences of its data sets, which differ from copy to copy: 20, 5
# and 5 epochs of about 10,000 sequences, two at a time.
_EPOCH = 5_000

CURRICULA = {
    # As published: 360 x 640, five frames, Adam as given. `--data gta_im=FOLDER --data mit_indoor=FOLDER ...`
    "published": TrainConfig(
        network=preset("full"),
        stages=(
            Stage("stage1", 20 * _EPOCH, layouts=("gta_im", "mit_indoor")),
            Stage("stage2", 5 * _EPOCH, layouts=("sun3d",)),
            Stage("stage3", 5 * _EPOCH, layouts=("thumos14",)),
        ),
    ),
    # The weights in `trained/`.
    "small": _shipped(),
    "tiny": _tiny(),
}


def curriculum(name: str) -> TrainConfig:
    """The training run of that name. Raises ValueError if there is none."""
    if name not in CURRICULA:
        raise ValueError(f"There is no curriculum '{name}'; there are {', '.join(CURRICULA)}.")
    return CURRICULA[name]
