"""What the benchmarks of engines with a network have in common: memory by length, a table of sizes, a command line.

Wherever an engine is needed, ``make(device, fp16)`` gives one.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from machine import machine, peak_mb
from sliding import paint_all

LENGTHS, GPU_LENGTHS = (20, 80, 320), (50, 80, 500)  # frames
# Flags that `memory` gives on, where a script has them and they have a value.
_GIVEN_ON = ("width", "height", "weights", "depth", "raft_iter", "subvideo_length")

Make = Callable[[str, bool | None], object]


def memory_one(make: Make, args: argparse.Namespace) -> None:
    """One clip in a process of its own; prints a line of JSON."""
    import torch

    torch.set_num_threads(1)
    engine = make("cpu", None)
    before = peak_mb()

    def tell(stage: str, done: int, count: int) -> None:
        if done % 20 == 0:
            print(f"{done} of {count} frames, peak so far {peak_mb():.0f} MB", file=sys.stderr, flush=True)

    seconds = paint_all(engine, args.frames, args.width, args.height, tell)
    print(json.dumps({"frames": args.frames, "before": before, "peak": peak_mb(), "seconds": seconds}))


def memory(script: str, args: argparse.Namespace) -> None:
    """A table of `memory_one`, by length: ``script memory-one`` is run for each."""
    size = f"{args.width} x {args.height}"
    print(f"| frames, {size} | peak of the process | above the loaded model | seconds a frame |")
    print("|---|---|---|---|")
    given = {name: getattr(args, name, None) for name in _GIVEN_ON}
    flags = [word for name, value in given.items() if value for word in (f"--{name}", str(value))]
    # What is freed leaves the process at once: the figure is what is in use, not what the allocator holds back.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    for count in args.lengths or LENGTHS:
        command = [sys.executable, script, "memory-one", "--frames", str(count), *flags]
        found = json.loads(subprocess.check_output(command, text=True, env=environment).splitlines()[-1])
        above = found["peak"] - found["before"]
        seconds = found["seconds"] / count
        print(f"| {count} | {found['peak']:.0f} MB | {above:.0f} MB | {seconds:.2f} |", flush=True)


def gpu_table(make: Make, device: str, sizes, lengths: Sequence[int], precisions: Sequence[bool]) -> None:
    """Peak of what PyTorch has allocated on the device (on the CPU: of the process), and seconds a frame.

    sizes: (width, height). precisions: whether each is half.
    """
    import torch

    cuda = device.startswith("cuda")
    heads = [f"{n} frames" for n in lengths]
    print(f"| size | precision | {' | '.join(heads)} |")
    print("|---|---|" + "---|" * len(heads))
    for width, height in sizes:
        for fp16 in precisions:
            engine = make(device, fp16)
            cells = []
            for count in lengths:
                if cuda:
                    torch.cuda.reset_peak_memory_stats()
                seconds = paint_all(engine, count, width, height) / count
                peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else peak_mb() / 2**10
                cells.append(f"{peak:.2f} GB, {seconds:.3f} s")
            print(f"| {width} x {height} | {'fp16' if fp16 else 'fp32'} | {' | '.join(cells)} |", flush=True)
            del engine


def gpu(make: Make, sizes, lengths: Sequence[int] | None) -> None:
    """The table of `gpu_table` on the first GPU, in both precisions; lengths: `GPU_LENGTHS` if None."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("There is no GPU here; `smoke` runs the same code on the CPU.")
    gpu_table(make, "cuda", sizes, lengths or GPU_LENGTHS, (False, True))


def smoke(make: Make) -> None:
    """The code of `gpu`, small and on the CPU; ``make`` gives engines with a small network."""
    gpu_table(make, "cpu", ((64, 48),), (4, 8), (False,))


def build_parser(doc: str, commands: Sequence[str]) -> argparse.ArgumentParser:
    """The flags that all scripts have. doc: the script's, whose first line is shown."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("what", choices=commands)
    parser.add_argument("--weights", help="as the engine takes them (default: random ones)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of cost")
    parser.add_argument(
        "--lengths",
        type=int,
        nargs="+",
        help=f"frames, where a table has many lengths (default: {LENGTHS}, of `gpu` {GPU_LENGTHS})",
    )
    parser.add_argument("--width", type=int, default=320, help="for memory")
    parser.add_argument("--height", type=int, default=240, help="for memory")
    parser.add_argument("--frames", type=int, help="for memory-one")
    parser.add_argument(
        "--depth", type=int, help="transformer blocks, for memory: all need the same, one at a time"
    )
    return parser


def run(script: str, parser: argparse.ArgumentParser, commands: dict[str, Callable]) -> None:
    """Parse the command line and run what it says, after a line about the machine."""
    args = parser.parse_args()
    if args.what != "memory-one":
        name = f"benchmarks/{os.path.basename(script)}"
        print(f"{machine()}\n\n`{' '.join([name, *sys.argv[1:]])}`\n", flush=True)
    commands[args.what](args)
