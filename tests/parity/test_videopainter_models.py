"""Single forwards of the branch and of the transformer against the reference implementation.

Limit: 2e-5 x peak, about thirty times the float32 error of the reference itself; the least visible mistakes that
were tried move the result by 1e-3 x peak.
"""

import golden
import pytest
import torch
import vp

from videopainter.diffusion import IDPool
from videopainter.diffusion.id_pool import sequence_mask
from videopainter.diffusion.rotary import rotary_tables

LIMIT = 2e-5


@pytest.mark.parametrize("path", vp.cases("branch"), ids=lambda path: path.stem)
def test_branch(path):
    case, tensors = golden.read_case(path)
    options = case["options"]
    vp.understood(options, {"component", "profile", "conditioning_scale", "wo_text", "rope"}, path.stem)
    branch = vp.model("branch", options["profile"], case["weights"])
    with torch.no_grad():
        samples = branch(
            hidden_states=tensors["in.noisy_latents"],
            encoder_hidden_states=tensors["in.text"],
            branch_cond=torch.cat([tensors["in.masked_latents"], tensors["in.mask"]], dim=2),
            timestep=tensors["in.timestep"],
            conditioning_scale=options["conditioning_scale"],
            image_rotary_emb=(tensors["in.rope_cos"], tensors["in.rope_sin"]),
            wo_text=options["wo_text"],
        ).branch_block_samples
    expected = numbered(tensors, "out.branch_sample.")
    assert len(samples) == len(expected)
    for number, (sample, right) in enumerate(zip(samples, expected)):
        golden.assert_close(f"sample {number}", sample, right, LIMIT)


@pytest.mark.parametrize("path", vp.cases("transformer"), ids=lambda path: path.stem)
def test_transformer(path):
    case, tensors = golden.read_case(path)
    options = case["options"]
    known = {"component", "profile", "rope", "branch_mask", "add_first", "branch_samples", "prev_clip_weight"}
    vp.understood(options, known | {"id_pool_resample_learnable", "lora"}, path.stem)
    transformer = vp.model("transformer", options["profile"], case["weights"])
    if "adapter" in (case.get("note") or ""):
        transformer.load_lora_adapter(vp.lora_weights(case, case["weights"]), prefix="transformer")
    text_length, video_tokens = tensors["in.text"].shape[1], tensors["in.rope_cos"].shape[0]
    samples = numbered(tensors, "in.branch_sample.")
    assert len(samples) == options.get("branch_samples", len(samples))
    before = numbered(tensors, "in.prev_hidden.")
    pool = None
    if before:
        everything = torch.arange(text_length + video_tokens)
        pool = IDPool(before, everything, tensors["in.prev_resample_mask"], kept_text=text_length)
    with torch.no_grad():
        output = transformer(
            hidden_states=torch.cat([tensors["in.noisy_latents"], tensors["in.image_latents"]], dim=2),
            encoder_hidden_states=tensors["in.text"],
            timestep=tensors["in.timestep"],
            image_rotary_emb=(tensors["in.rope_cos"], tensors["in.rope_sin"]),
            branch_block_samples=samples,
            mask=tensors["in.mask"],
            mask_add=options["branch_mask"],
            add_first=options["add_first"],
            resample=options.get("id_pool_resample_learnable", False),
            id_pool=pool,
            prev_clip_weight=options.get("prev_clip_weight") or 0.0,
            collect_tokens=torch.arange(text_length + video_tokens),
        )
    golden.assert_close("output", output.sample, tensors["out.output"], LIMIT)
    for number, expected in enumerate(numbered(tensors, "out.hidden.")):
        golden.assert_close(f"hidden {number}", output.hidden_states[number], expected, LIMIT)
    if "out.resample_mask" in tensors:
        patch = transformer.config.patch_size
        assert torch.equal(
            sequence_mask(tensors["in.mask"], patch, text_length), tensors["out.resample_mask"]
        )


@pytest.mark.parametrize("path", vp.cases("branch") + vp.cases("transformer"), ids=lambda path: path.stem)
def test_rotary_tables(path):
    """The tables that the cases come with are ours, for the grid and crop that the case names."""
    case, tensors = golden.read_case(path)
    rope = case["options"]["rope"]
    head = tensors["in.rope_cos"].shape[1]
    region = (rope["crop_start"], rope["crop_stop"])
    tables = rotary_tables(head, tuple(rope["grid"]), rope["frames"], region)
    for name, table in zip(("cos", "sin"), tables):
        golden.assert_close(name, table, tensors[f"in.rope_{name}"], 1e-6)  # float32 of the same formula


@pytest.mark.parametrize("profile", vp.profiles())
@pytest.mark.parametrize("component", vp.CLASSES)
def test_names_and_shapes(profile, component):
    """Every key and shape of the reference's models, nothing missing and nothing extra."""
    expected = golden.read_json(vp.FOLDER / f"manifest_{profile}.json")[component]
    built = vp.CLASSES[component].from_config(vp.config(profile)[component])
    assert {name: list(tensor.shape) for name, tensor in built.state_dict().items()} == expected


def test_filled_values():
    """The weights of the other tests are those that the golden data were made with."""
    fill = golden.module("fill")
    for name, told in golden.read_json(vp.FOLDER / "fill_check.json").items() if vp.FOLDER else ():
        values = fill.fill_tensor(name.split(":", 1)[1], told["shape"], told["seed"]).flatten()
        found = torch.cat([values[: len(told["first"])], values[-1:]]).tolist()
        assert found == pytest.approx([*told["first"], told["last"]], rel=1e-6), name


def numbered(tensors: dict, prefix: str) -> list[torch.Tensor]:
    count = sum(name.startswith(prefix) for name in tensors)
    return [tensors[f"{prefix}{number}"] for number in range(count)]
