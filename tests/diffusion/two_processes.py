"""Networks and a whole run on two processes (Gloo, CPU): `torchrun ... two_processes.py OUTPUT MODE`."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from videopainter.diffusion.parallel import Parallelism, parallelize, processes_of_launcher  # noqa: E402

# By its place: in a run of all tests "conftest" is whichever came first.
spec = importlib.util.spec_from_file_location("tiny_networks", ROOT / "tests/diffusion/conftest.py")
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)

HOWS = {
    "ulysses": Parallelism(ulysses=2),
    "guidance": Parallelism(guidance=True),
}


@torch.no_grad()
def results(how: Parallelism | None) -> dict[str, torch.Tensor]:
    """What branch and transformer make of given inputs, and the pipeline of a clip."""
    inputs, found = tiny.make_model_inputs(frames=3), {}
    for name, more in {"text": {}, "no text": {"wo_text": True}, "everywhere": {"mask_add": False}}.items():
        transformer, branch = tiny.make("transformer"), tiny.make("branch")
        if how is not None:
            parallelize(transformer, branch, how)
        mask_add = more.pop("mask_add", True)
        samples = branch(**inputs.branch, **more, return_dict=False)[0]
        found[name] = transformer(
            **inputs.base,
            mask=inputs.mask,
            mask_add=mask_add,
            branch_block_samples=samples,
            return_dict=False,
        )[0]
    pipe = tiny.make_pipeline()
    if how is not None:
        parallelize(pipe.transformer, pipe.branch, how)
    found["pipeline"] = torch.as_tensor(pipe(**tiny.make_arguments(guidance_scale=3.0)).frames[0])
    return found


def main(output: Path, mode: str) -> None:
    torch.set_num_threads(1)
    with processes_of_launcher():
        found = results(HOWS[mode])
        everyone = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, found)
        if dist.get_rank() == 0:
            torch.save(everyone, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
