"""The training loop: resumable, on a GPU if there is one, else on one or two processes of the CPU."""

import datetime
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from videopainter.segmentation.clicks.training.compose import SIZE
from videopainter.segmentation.clicks.training.former import from_onnx
from videopainter.segmentation.clicks.training.network import CANDIDATES, ClickNetwork
from videopainter.segmentation.clicks.training.views import (
    OBJECT,
    Pool,
    closer,
    correct,
    disc,
    inner_click,
    view,
)

VALIDATION = 160  # views at most
EXTENT = (0.6, 1.6, 3.0)  # what a missed pixel costs beside a wrong one: part, object, group
CLICKS = 5  # with which it is validated
SMALL = 192
ROUNDS = (0.42, 0.22, 0.14, 0.1, 0.07, 0.05)  # share of the steps with 0, 1, 2... clicks after the first
CLOSER = 0.4  # share of the views after further clicks that are cut around the last one


@dataclass
class Plan:
    """What a run is made of.

    Attributes:
        pool: Folder with the pictures to train on.
        held_out: Folder with the pictures to validate on.
        output: Folder of the run: `last.pth`, `best.pth`, `snapshot-N.pth`, `log.jsonl`.
        imagenet: The encoder's weights to begin with.
        start: Weights of a former run, or an exported file, to begin with instead.
        minutes: Length of the run; the learning rate falls along half a cosine over it.
        batch: Views a step and process.
        rate: Learning rate of everything but the encoder, which takes a seventh.
        processes: On a CPU, processes of one thread; their gradients are averaged.
        snapshot_minutes: Between two snapshots.
        seed: Chooses views and clicks.
        small: Share of the run that sees pictures of `SMALL` pixels, which cost half as much.
    """

    pool: Path
    held_out: Path
    output: Path
    imagenet: Path
    start: Path | None = None
    minutes: float = 90.0
    batch: int = 8
    rate: float = 1.5e-3
    processes: int = 2
    snapshot_minutes: float = 8.0
    seed: int = 0
    small: float = 0.5


def batch_of(pool: Pool, rng, count: int, size: int = SIZE):
    """Arrays of `count` views, `size` pixels wide and high."""
    views = [view(pool.next(), rng, size) for _ in range(count)]
    return tuple(np.stack(part) for part in zip(*views))


class Views(torch.utils.data.IterableDataset):
    """Endless batches of views, made in a process beside the training.

    Args:
        plan: Names the pool and the batch.
        seed: Chooses pictures, clicks and damages.
        size: A shared number: width and height of the pictures.
    """

    def __init__(self, plan: Plan, seed: int, size):
        self.plan, self.seed, self.size = plan, seed, size

    def __iter__(self):
        cv2.setNumThreads(1)
        pool, rng = Pool(self.plan.pool, self.seed), np.random.default_rng(self.seed)
        while True:
            yield batch_of(pool, rng, self.plan.batch, self.size.value)


def losses(logits, scores, masks, valid, several=True):
    """The loss of a batch; `masks`: `(n, 3, h, w)` shares at half size, `valid`: `(n, 3)`. Also the IoU, `(n, 3)`.

    Where several extents are possible the part is cautious and the group generous, so that they differ in doubt.
    """
    logits = logits.float()
    missed = logits.new_tensor(EXTENT).view(1, -1, 1, 1) if several else None
    cross = F.binary_cross_entropy_with_logits(logits, masks, reduction="none", pos_weight=missed)
    p = torch.sigmoid(logits)
    focus = (p - masks).abs().detach() + 0.05  # hard pixels count more
    hard = (focus * cross).sum((2, 3)) / focus.sum((2, 3))
    both, either = (p * masks).sum((2, 3)), (p + masks - p * masks).sum((2, 3))
    each = 0.5 * hard + 1.5 * cross.mean((2, 3)) + 1 - (both + 1) / (either + 1)
    with torch.no_grad():
        found, true = logits > 0, masks > 0.5
        iou = (found & true).sum((2, 3)) / (found | true).sum((2, 3)).clamp(min=1)
    weight = valid * valid.new_tensor([0.5, 1.0, 0.5])
    judged = F.smooth_l1_loss(scores, iou, reduction="none", beta=0.1)
    return ((each + 0.5 * judged) * weight).sum() / weight.sum(), iou


class Trainer:
    """One process of a run."""

    def __init__(self, plan: Plan, rank: int = 0, world: int = 1):
        self.plan, self.rank, self.world = plan, rank, world
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.output = Path(plan.output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.net = ClickNetwork()
        if plan.start and plan.start.suffix == ".onnx":
            self.net = self.former(plan.start)
        elif plan.start:
            self.net.load_state_dict(torch.load(plan.start, map_location="cpu", weights_only=True))
        else:
            self.net.encoder.load_imagenet(plan.imagenet)
        self.net.to(self.device, memory_format=torch.channels_last)
        for module in (
            self.net.encoder.stem,
            *self.net.encoder.stages[:2],
        ):  # seen by no hint: kept as they are
            module.requires_grad_(False)
        encoder = [p for p in self.net.encoder.parameters() if p.requires_grad]
        known = {id(p) for p in self.net.encoder.parameters()}
        rest = [p for p in self.net.parameters() if id(p) not in known]
        self.rates = (plan.rate / 7, plan.rate)
        groups = [{"params": encoder}, {"params": rest}]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.rate, weight_decay=1e-3)
        self.parameters = encoder + rest
        self.mean = {name: value.clone() for name, value in self.net.state_dict().items()}
        self.step = self.seen = 0
        self.elapsed, self.best = 0.0, 0.0
        last = self.output / "last.pth"
        if last.exists():
            state = torch.load(last, map_location=self.device, weights_only=True)
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.mean = state["mean"]
            self.step, self.seen, self.elapsed, self.best = (
                state[k] for k in ("step", "seen", "elapsed", "best")
            )
        seed = 1000 * plan.seed + 10 * self.step + rank
        self.rng = np.random.default_rng(seed)
        self.shown = torch.multiprocessing.Value("i", self.size(), lock=False)
        loader = torch.utils.data.DataLoader(
            Views(plan, seed, self.shown), batch_size=None, num_workers=1, prefetch_factor=3
        )
        self.views = iter(loader)
        self.log = []

    def former(self, path: Path) -> ClickNetwork:
        """The network of an exported file; its normalisations are measured on views of the pool."""
        pool, rng, batches = Pool(self.plan.pool, self.plan.seed), np.random.default_rng(self.plan.seed), []
        for _ in range(16):
            image, _, _, hints, _ = batch_of(pool, rng, 8, SMALL)
            batches.append((torch.from_numpy(image.transpose(0, 3, 1, 2)).float(), torch.from_numpy(hints)))
        return from_onnx(path, batches)

    def cheaply(self):
        """Half precision where that is faster."""
        return torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda")

    def predict(self, net, picture, hints, early):
        with torch.no_grad(), self.cheaply():
            logits, _ = net(picture, hints, early)
        return torch.sigmoid(
            F.interpolate(logits.float(), scale_factor=2, mode="bilinear", align_corners=False)
        )

    def to_tensor(self, array):
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        return tensor.float().contiguous(memory_format=torch.channels_last) if array.ndim == 4 else tensor

    def size(self) -> int:
        """Of the pictures of this step."""
        return SMALL if self.elapsed < 60 * self.plan.minutes * self.plan.small else SIZE

    def advance(self) -> None:
        """One step."""
        self.shown.value = self.size()
        image, masks, valid, hints, intended = (np.asarray(part) for part in next(self.views))
        picture = self.to_tensor(image.transpose(0, 3, 1, 2))
        with torch.no_grad(), self.cheaply():
            early = tuple(part.float() for part in self.net.early(picture))
        shared = np.random.default_rng(self.step + 7919 * self.plan.seed)  # the processes do the same
        rounds = int(shared.choice(len(ROUNDS), p=ROUNDS))
        again = (
            rounds > 0 and shared.random() < 0.4
        )  # a second look at what the first one found, without a new click
        if rounds:
            self.net.eval()
            chosen, errors = masks[np.arange(len(masks)), intended], [None] * len(masks)
            for number in range(rounds):
                found = self.predict(self.net, picture, self.to_tensor(hints), early).cpu().numpy()
                for k in range(len(hints)):
                    source = found[k, intended[k] if number == 0 else OBJECT]
                    if again and number == 0:
                        hints[k, 0] = source
                    else:
                        errors[k] = correct(source, chosen[k], hints[k], self.rng)
            near = [k for k, error in enumerate(errors) if error and self.rng.random() < CLOSER]
            if near:
                image = image.copy()
                for k in near:
                    image[k], chosen[k], hints[k] = closer(image[k], chosen[k], hints[k], errors[k], self.rng)
                picture, early = self.to_tensor(image.transpose(0, 3, 1, 2)), None
            masks = np.repeat(chosen[:, None], CANDIDATES, 1)
            valid = np.ones_like(valid)
        self.net.train()
        logits, scores = self.net(picture, self.to_tensor(hints), early)
        target = F.avg_pool2d(self.to_tensor(masks), 2)
        loss, iou = losses(logits, scores, target, self.to_tensor(valid).float(), not rounds)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.world > 1:
            self.average_gradients()
        torch.nn.utils.clip_grad_norm_(self.parameters, 5.0)
        done = min(1.0, self.elapsed / (60 * self.plan.minutes))
        factor = min(1, (self.step + 1) / 100) * (0.49 * (1 + math.cos(math.pi * done)) + 0.02)
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * factor
        self.optimizer.step()
        self.step += 1
        self.seen += self.world * self.plan.batch
        decay = min(0.993, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                if value.dtype.is_floating_point:
                    self.mean[name].lerp_(value, 1 - decay)
                else:
                    self.mean[name].copy_(value)
        first = (
            iou[:, OBJECT][torch.from_numpy(hints[:, 0].max((1, 2)) == 0)] if not rounds else iou[:0, OBJECT]
        )
        part = iou[:, 0][self.to_tensor(valid)[:, 0]] if not rounds else iou[:0, 0]
        later = iou[:, OBJECT].mean().item() if rounds else math.nan
        mean = [x.mean().item() if len(x) else math.nan for x in (first, part)]
        self.log.append((loss.item(), *mean, later))

    def average_gradients(self) -> None:
        """Over the processes."""
        for p in self.parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([p.grad.flatten() for p in self.parameters])
        dist.all_reduce(flat)
        flat /= self.world
        for p, piece in zip(self.parameters, flat.split([p.numel() for p in self.parameters])):
            p.grad.copy_(piece.view_as(p))

    @torch.no_grad()
    def validate(self) -> dict:
        """IoU of the running mean on unseen pictures: after 1 to 5 clicks, and of the first's best candidate."""
        net = ClickNetwork().to(self.device, memory_format=torch.channels_last)
        net.load_state_dict(self.mean)
        net.eval()
        pool, rng, out, best = Pool(self.plan.held_out, 1), np.random.default_rng(1), [], None
        for _ in range(max(1, min(VALIDATION, len(pool)) // 8)):
            image, masks, _, hints, _ = batch_of(pool, rng, 8)
            truth = masks[:, OBJECT]
            hints[:] = 0
            for k in range(8):
                disc(hints[k, 1], *inner_click(truth[k], rng))
            picture, rows = self.to_tensor(image.transpose(0, 3, 1, 2)), []
            for number in range(CLICKS):
                found = self.predict(net, picture, self.to_tensor(hints), None).cpu().numpy()
                binary = found > 0.5
                both, either = (binary & truth[:, None]).sum((2, 3)), (binary | truth[:, None]).sum((2, 3))
                iou = both / np.maximum(either, 1)
                rows.append(iou[:, OBJECT])
                best = iou.max(1) if number == 0 else best
                for k in range(8):
                    correct(found[k, OBJECT], truth[k], hints[k], rng)
            out.append(np.stack((*rows, best)))
        names = (*(f"click{k + 1}" for k in range(CLICKS)), "best")
        return dict(zip(names, np.concatenate(out, 1).mean(1).round(4).tolist()))

    def save(self, path: Path, content) -> None:
        temporary = path.with_suffix(".part")
        torch.save(content, temporary)
        os.replace(temporary, path)

    def run(self) -> None:
        """Until the time is over."""
        began, before = time.time(), self.elapsed
        snapshot = self.elapsed
        while self.elapsed < 60 * self.plan.minutes:
            self.advance()
            clock = torch.tensor([before + time.time() - began])
            if self.world > 1:
                dist.broadcast(clock, 0)
            self.elapsed = clock.item()
            if self.rank == 0 and self.step % 50 == 0:
                row = dict(
                    zip(
                        ("loss", "first", "part", "later"),
                        np.nanmean(np.array(self.log), 0).round(4).tolist(),
                    )
                )
                self.note({"step": self.step, "seen": self.seen, "seconds": round(self.elapsed), **row})
                self.log = []
            if self.elapsed - snapshot > 60 * self.plan.snapshot_minutes:
                snapshot = self.elapsed
                if self.rank == 0:
                    self.snapshot()
        if self.rank == 0:
            self.snapshot()

    def snapshot(self) -> None:
        figures = self.validate()
        self.note({"step": self.step, "seen": self.seen, "seconds": round(self.elapsed), "held_out": figures})
        score = float(sum(figures[name] for name in ("click1", "click3", "click5", "best")))
        self.save(self.output / f"snapshot-{self.step:06d}.pth", self.mean)
        if score > self.best:
            self.best = score
            self.save(self.output / "best.pth", self.mean)
        state = {"net": self.net.state_dict(), "mean": self.mean, "optimizer": self.optimizer.state_dict()}
        state |= {"step": self.step, "seen": self.seen, "elapsed": self.elapsed, "best": self.best}
        self.save(self.output / "last.pth", state)

    def note(self, row: dict) -> None:
        line = json.dumps(row, default=float)
        with open(self.output / "log.jsonl", "a") as log:
            log.write(line + "\n")
        print(line, flush=True)


def _process(rank: int, world: int, plan: Plan) -> None:
    cv2.setNumThreads(1)
    torch.manual_seed(plan.seed)
    if world > 1:
        torch.set_num_threads(1)
        meeting = f"file://{Path(plan.output).resolve()}/meeting"
        limit = datetime.timedelta(hours=2)
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=limit)
    Trainer(plan, rank, world).run()


def train(plan: Plan) -> None:
    """Run the plan; go on where a former call with the same output was stopped."""
    Path(plan.output).mkdir(parents=True, exist_ok=True)
    world = 1 if torch.cuda.is_available() else plan.processes
    (Path(plan.output) / "meeting").unlink(missing_ok=True)
    if world == 1:
        _process(0, 1, plan)
    else:
        torch.multiprocessing.spawn(_process, (world, plan), nprocs=world)
