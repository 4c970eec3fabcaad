"""The training as one command: fetch, render, compose, train, export."""

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    flags = argparse.ArgumentParser(description="Train the click network.")
    flags.add_argument(
        "--work", type=Path, required=True, help="folder for packages, pictures and weights (15 GB)"
    )
    flags.add_argument("--minutes", type=float, default=90.0, help="length of the training (default 90)")
    flags.add_argument("--pictures", type=int, default=20_000, help="pictures to compose (default 20000)")
    flags.add_argument("--things", type=int, default=2000, help="things to render (default 2000)")
    flags.add_argument("--processes", type=int, default=2, help="processes on a CPU (default 2)")
    flags.add_argument("--batch", type=int, default=8, help="views a step and process (default 8)")
    flags.add_argument("--rate", type=float, default=1.5e-3, help="learning rate (default 0.0015)")
    flags.add_argument(
        "--start",
        type=Path,
        help="weights of a former run, or an exported clicks.onnx, to begin with (default: the encoder's of ImageNet)",
    )
    flags.add_argument(
        "--average",
        action="store_true",
        help="the result is the mean of the trained weights and those of --start, an exported clicks.onnx",
    )
    flags.add_argument("--run", default="run", help="name of the run in the folder (default run)")
    flags.add_argument("--output", type=Path, help="the ONNX file to write (default WORK/RUN/clicks.onnx)")
    return flags


def _render(packages: Path, bank_folder: Path, seed: int, shards: int) -> None:
    from videopainter.segmentation.clicks.training.bank import fill

    cv2.setNumThreads(1)
    fill(packages, bank_folder, seed, shards)


def _compose(packages: Path, bank_folder: Path, pool: Path, seeds: list, held_out: bool, count: int) -> None:
    from videopainter.segmentation.clicks.training.compose import write_pool

    cv2.setNumThreads(1)
    write_pool(packages, bank_folder, pool, seeds, held_out, count)


def main(arguments: list[str] | None = None) -> int:
    """Run the stages; returns the exit status."""
    from videopainter.segmentation.clicks.training import bank, compose, sources
    from videopainter.segmentation.clicks.training.export import export
    from videopainter.segmentation.clicks.training.former import average
    from videopainter.segmentation.clicks.training.train import Plan, train

    flags = parser()
    options = flags.parse_args(arguments)
    if options.average and (options.start is None or options.start.suffix != ".onnx"):
        flags.error("--average needs an exported network to begin with: --start clicks.onnx.")
    packages, things = options.work / "packages", options.work / "bank"
    sources.fetch(packages)
    workers = max(1, options.processes)
    count = min(compose.CHUNK, options.pictures)
    chunks = range(10, 10 + -(-options.pictures // count))
    with ProcessPoolExecutor(workers) as pool:
        shards = -(-options.things // (bank.SHARD * workers))
        for done in [pool.submit(_render, packages, things, 1 + k, shards) for k in range(workers)]:
            done.result()
        jobs = [pool.submit(_compose, packages, things, options.work / "held_out", [1], True, count)]
        for k in range(workers):
            seeds = list(chunks[k::workers])
            jobs.append(pool.submit(_compose, packages, things, options.work / "pool", seeds, False, count))
        for done in jobs:
            done.result()
    output = options.work / options.run
    plan = Plan(
        pool=options.work / "pool",
        held_out=options.work / "held_out",
        output=output,
        imagenet=next((packages / "efficientnet").glob("**/*.pth")),
        start=options.start,
        minutes=options.minutes,
        batch=options.batch,
        rate=options.rate,
        processes=workers,
    )
    train(plan)
    target = options.output or output / "clicks.onnx"
    export(output / "best.pth", target)
    if options.average:
        average([options.start, target], target)
    print(target)
    return 0
