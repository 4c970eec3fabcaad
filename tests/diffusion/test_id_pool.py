"""The ID pool keeps only what is used, and the result is the same as if it kept everything."""

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb

from videopainter.diffusion import IDPool, VideoPainterPipeline
from videopainter.diffusion.blocks import VideoPainterBlock
from videopainter.diffusion.id_pool import IDPoolAttnProcessor, ZeroKeys, sequence_mask, token_mask
from videopainter.diffusion.rotary import complex_table, prepare_rotary_tables, rotate


class KeepingEverything(VideoPainterPipeline):
    """Keeps all tokens of all windows, as the reference does; what is used is up to the masks."""

    def choose_pool_tokens(self, window, next_mask, prompt_embeds, settings):
        frames, _, height, width = window.mask.shape[1:]
        return torch.arange(prompt_embeds.shape[1] + frames * (height // 2) * (width // 2))


class Recording(VideoPainterPipeline):
    def denoise_window(self, *args, id_pool=None, collect_tokens=None, **kwargs):
        self.pools.append(id_pool)
        self.collected.append(collect_tokens)
        return super().denoise_window(*args, id_pool=id_pool, collect_tokens=collect_tokens, **kwargs)


def recording(tiny):
    pipe = tiny.pipeline(kind=Recording)
    pipe.pools, pipe.collected = [], []
    return pipe


@pytest.mark.parametrize("match_reference", [False, True])
@pytest.mark.parametrize("id_pool", [False, True])
def test_the_result_is_the_same_as_with_everything_kept(tiny, id_pool, match_reference):
    options = {"id_pool": id_pool, "prev_clip_weight": 0.6, "match_reference": match_reference}
    options["output_type"] = "latent"
    few = tiny.pipeline()(**tiny.arguments(25, **options)).frames
    everything = tiny.pipeline(kind=KeepingEverything)(**tiny.arguments(25, **options)).frames
    if id_pool:  # other keys are left out and made up for, which rounds otherwise
        assert (few - everything).abs().max() < 1e-5 * everything.abs().max()
    else:
        assert torch.equal(few, everything)
    without = tiny.pipeline()(**tiny.arguments(25, **{**options, "prev_clip_weight": 0.0})).frames
    assert (few - without).abs().max() > 1e-3


def test_only_tokens_of_the_hole_are_kept_and_only_for_a_successor(tiny):
    pipe = recording(tiny)
    pipe(**tiny.arguments(25, id_pool=True, prev_clip_weight=0.5, output_type="latent"))
    assert pipe.num_windows == 3
    assert [collected is not None for collected in pipe.collected] == [True, True, False]
    first, *others = pipe.pools
    assert first is None
    blocks = len(pipe.transformer.transformer_blocks)
    width = pipe.transformer.config.num_attention_heads * pipe.transformer.config.attention_head_dim
    for pool in others:
        kept = int(pool.mask.any(0).sum())
        assert 0 < kept < pool.mask.shape[1] / 2
        assert pool.positions.tolist() == pool.mask.any(0).nonzero().flatten().tolist()
        assert pool.nbytes == blocks * 2 * kept * width * 4  # both halves of the guidance, float32
        assert pool.kept_text == 0


def test_without_resampling_all_tokens_are_kept(tiny):
    pipe = recording(tiny)
    pipe(**tiny.arguments(17, prev_clip_weight=0.5, output_type="latent"))
    assert pipe.pools[1].positions.shape[0] == pipe.pools[1].mask.shape[1]
    assert pipe.pools[1].kept_text == 16


def test_with_no_weight_nothing_is_kept(tiny):
    pipe = recording(tiny)
    pipe(**tiny.arguments(17, id_pool=True, prev_clip_weight=0.0, output_type="latent"))
    assert pipe.pools == [None, None]
    assert pipe.collected == [None, None]


def test_a_window_without_a_hole_leaves_nothing(tiny):
    pipe = recording(tiny)
    arguments = tiny.arguments(17, id_pool=True, prev_clip_weight=0.5)
    arguments["masks"][:] = False
    frames = pipe(**arguments).frames
    assert pipe.pools[1].nbytes == 0
    assert np.isfinite(frames).all()


def test_the_mask_of_the_window_before_counts_at_every_step_but_not_in_the_reference(tiny):
    for match_reference in (False, True):
        pipe, given = tiny.pipeline(), []
        pipe.transformer.register_forward_pre_hook(
            lambda module, args, kwargs, given=given: given.append(kwargs["pool_mask"]), with_kwargs=True
        )
        options = {"id_pool": True, "prev_clip_weight": 0.5, "match_reference": match_reference}
        pipe(**tiny.arguments(17, num_inference_steps=3, output_type="latent", **options))
        assert [mask is not None for mask in given] == [False] * 4 + [match_reference] * 2


def test_a_token_is_masked_if_any_pixel_of_its_patch_is():
    mask = torch.zeros(1, 2, 1, 4, 6)
    mask[0, 1, 0, 3, 2] = 1
    assert token_mask(mask, 2).nonzero().tolist() == [[0, 6 + 3 + 1]]
    assert sequence_mask(mask, 2, 5).nonzero().tolist() == [[0, 5 + 6 + 3 + 1]]


def test_a_pool_of_some_tokens_needs_resampling(tiny):
    transformer, inputs = tiny.make("transformer"), tiny.model_inputs()
    pool = IDPool([torch.zeros(2, 3, 64)] * 4, torch.arange(20, 23), torch.zeros(2, 88, dtype=torch.bool), 0)
    with pytest.raises(ValueError, match="has to hold all 88 tokens, but it holds 3"):
        transformer(**inputs.base, id_pool=pool, prev_clip_weight=0.5)


@pytest.mark.parametrize("option", ["mask_add", "resample"])
def test_masks_are_needed(tiny, option):
    with pytest.raises(ValueError, match="need `mask`"):
        tiny.make("transformer")(**tiny.model_inputs().base, **{option: True})


@pytest.mark.parametrize("grid", [(3, 6, 9), None], ids=["by axis", "by token"])
@pytest.mark.parametrize("before", [False, True], ids=["own tokens", "window before"])
@torch.no_grad()
def test_keys_of_zero_value_are_made_up_for(grid, before):
    """To the last digits of float64, for batches whose holes differ, and norms whose bias is large."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    text, video = 5, 3 * 6 * 9
    block = VideoPainterBlock(64, 2, 32, 16, attention_bias=True).double().eval()
    for parameter in block.parameters():
        parameter.copy_(draw(*parameter.shape) * 0.2)
    block.attn1.norm_k.bias.copy_(draw(32) * 2)
    block.attn1.set_processor(IDPoolAttnProcessor())
    table = complex_table(prepare_rotary_tables(32, 16, (96, 144), 3))
    mask = torch.zeros(2, text + video, dtype=torch.bool)
    mask[0, 30:60] = mask[1, 45:75] = True
    positions = mask.any(0).nonzero()[:, 0]
    kwargs = {"resample_mask": mask}
    if before:
        states = draw(2, len(positions), 64)
        kwargs |= {
            "pool_states": states,
            "pool_positions": positions,
            "pool_mask": mask,
            "prev_clip_weight": 0.6,
        }
    inputs = (draw(2, video, 64), draw(2, text, 64), draw(2, 16), table)
    wanted = block(*inputs, dict(kwargs))
    keys = ZeroKeys.build(positions, text, table, video, grid)
    for found, expected in zip(block(*inputs, {**kwargs, "zero_keys": keys}), wanted):
        assert (found - expected).abs().max() < 1e-14 * expected.abs().max()


@torch.no_grad()
def test_rotation_has_the_bits_of_diffusers(tiny):
    tables = prepare_rotary_tables(64, 16, (64, 96), 3)
    states = torch.randn(2, 5 + len(tables[0]), 2, 64)
    for kind in (torch.float32, torch.bfloat16):
        given = states.to(kind)
        wanted = torch.cat([given[:, :5], apply_rotary_emb(given[:, 5:], tables, sequence_dim=1)], dim=1)
        assert torch.equal(rotate(given.clone(), complex_table(tables), 5), wanted)
