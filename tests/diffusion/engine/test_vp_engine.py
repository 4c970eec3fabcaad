"""VideoPainter as an engine: what the spine asks of it, and its weights as they are released."""

import shutil

import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceProcessor
from transformers import T5Tokenizer

from videopainter.diffusion import VideoPainterEngine
from videopainter.diffusion import engine as module
from videopainter.engine import ENGINES, Engine, EngineError, choose_engine
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource

SIZE = (64, 96)


def make(**options):
    return VideoPainterEngine(**{"num_inference_steps": 1, "first_frame": "none", **options})


def run(engine, clip, count=12, size=SIZE, seed=1, **more):
    frames = clip.frames[:count, : size[0], : size[1]]
    masks = MaskTrack.from_array(clip.masks[:count, 40 : 40 + size[0], 40 : 40 + size[1]])
    generator = np.random.default_rng(seed)
    return list(engine(ArraySource(frames, 8), masks, prompt="a red wall", generator=generator, **more))


def test_what_the_spine_asks_of_an_engine(cpu, clip):
    engine = ENGINES["videopainter"].load(num_inference_steps=2, first_frame="none", seed_of="nothing")
    assert isinstance(engine, Engine) and engine.spec.name == "videopainter"
    assert (engine.spec.working_size, engine.options.window, engine.options.overlap) == (SIZE, 9, 1)
    seen = []
    out = run(engine, clip, progress=lambda *told: seen.append(told))
    assert len(out) == 12 and all(f.shape == (*SIZE, 3) and f.dtype == np.uint8 for f in out)
    assert list(dict.fromkeys(seen)) == [("inpaint", i, 4) for i in range(5)]  # two windows of two steps


@pytest.mark.parametrize("count", [1, 10])
def test_every_frame_of_a_video_of_any_length(cpu, clip, count):
    assert len(run(make(), clip, count)) == count


def test_frames_of_another_size_come_back_in_it(cpu, clip):
    out = run(make(), clip, 3, size=(50, 120))
    assert [f.shape for f in out] == [(50, 120, 3)] * 3


def test_frames_are_given_out_before_the_next_window_is_begun(cpu, clip):
    seen = []
    frames, masks = clip.frames[:25, :64, :96], MaskTrack.from_array(clip.masks[:25, :64, :96])
    stream = make()(
        ArraySource(frames, 8),
        masks,
        prompt="a road",
        progress=lambda stage, done, total: seen.append((done, total)),
    )
    next(stream)
    assert seen[-1][0] < seen[-1][1]
    stream.close()


def test_the_seed_decides(cpu, clip):
    engine = make()
    one, again, other = (run(engine, clip, 5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


class Spy:
    """In place of the pipeline's stream: keeps what it is called with, and gives parts of two frames."""

    def __init__(self, monkeypatch, parts=1, fails_at=lambda calls, part: False):
        self.calls, self.pipes, self.parts, self.fails_at = [], [], parts, fails_at
        monkeypatch.setattr(
            module.VideoPainterPipeline, "stream", lambda pipe, *a, **kw: self(pipe, *a, **kw)
        )

    def __call__(self, pipe, video, masks, **arguments):
        self.calls.append(arguments)
        self.pipes.append(pipe)
        for part in range(self.parts):
            if self.fails_at(len(self.calls), part):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            yield np.stack([np.full((*SIZE, 3), (2 * part + i) / 255) for i in range(2)])[None]


def test_options_reach_the_pipeline(cpu, clip, monkeypatch):
    spy = Spy(monkeypatch)
    options = {
        "num_inference_steps": 7,
        "guidance_scale": 2.5,
        "window": 9,
        "overlap": 5,
        "prev_clip_weight": 0.5,
        "conditioning_scale": 0.4,
    }
    run(make(**options, id_adapter=True), clip, 2)
    called = spy.calls[0]
    assert {name: called[name] for name in options} == options
    assert called["id_pool"] is True and called["image"] is None
    assert called["prompt_embeds"].shape == called["negative_prompt_embeds"].shape == (1, 16, 32)


def test_the_id_pool_changes_later_windows(cpu, clip):
    frames = (run(make(id_adapter=True, prev_clip_weight=w), clip, 12) for w in (0.5, 0.0))
    with_pool, without = (np.asarray(one).astype(int) for one in frames)
    # The first window has no pool, but gives its tokens to the next one's: its last block makes all of them, where
    # without a pool only those of the hole are made. That rounds otherwise (1e-5), and so may a pixel.
    np.testing.assert_allclose(with_pool[:5], without[:5], atol=1)
    assert np.abs(with_pool[9:] - without[9:]).max() > 1


def test_the_id_adapter_switches_the_pool_on(cpu, clip, monkeypatch):
    with monkeypatch.context() as patch:
        spy = Spy(patch)
        run(make(id_adapter=True), clip, 2)
        run(make(), clip, 2)
    assert [call["id_pool"] for call in spy.calls] == [True, False]
    folder = cpu / "VideoPainterID" / "checkpoints"
    for given in (folder, folder / "pytorch_lora_weights.safetensors", str(folder)):
        with monkeypatch.context() as patch:
            spy = Spy(patch)
            run(make(id_adapter=given), clip, 2)
        adapted = spy.pipes[0].transformer  # the adapter is in its weights
        assert not any("lora" in name for name, _ in adapted.named_parameters())
        with monkeypatch.context() as patch:
            spy = Spy(patch)
            run(make(), clip, 2)
        changed = [
            name
            for (name, one), other in zip(
                adapted.named_parameters(), spy.pipes[0].transformer.parameters(), strict=True
            )
            if not torch.equal(one, other)
        ]
        assert len(changed) == 4 * len(adapted.transformer_blocks)


def test_the_first_frame_is_followed(cpu, clip):
    engine = make(first_frame="propagation")
    assert engine.spec.wants_first_frame and not make().spec.wants_first_frame
    dark, light = (run(engine, clip, 9, first_frame=np.full((*SIZE, 3), v, np.uint8)) for v in (10, 240))
    assert not np.array_equal(dark[4], light[4])


def test_weights_are_loaded_once_and_the_text_encoder_is_gone(cpu, clip, monkeypatch):
    calls = []
    for kind in ("VideoPainterTransformer3DModel", "T5EncoderModel"):
        real = getattr(module, kind).from_pretrained

        def counted(*args, real=real, kind=kind, **kwargs):
            calls.append(kind)
            return real(*args, **kwargs)

        monkeypatch.setattr(getattr(module, kind), "from_pretrained", counted)
    spy = Spy(monkeypatch)
    engine = make()
    run(engine, clip, 2)
    assert spy.pipes[0].text_encoder is None
    run(engine, clip, 2)
    assert spy.pipes[1] is spy.pipes[0]
    assert sorted(calls) == ["T5EncoderModel", "VideoPainterTransformer3DModel"]
    list(engine(ArraySource(clip.frames[:1], 8), MaskTrack.from_array(clip.masks[:1]), prompt="a dog"))
    assert calls.count("T5EncoderModel") == 2  # another prompt


def test_the_published_tokenizer_is_read_as_sentencepiece_reads_it(weights):
    folder = weights / "CogVideoX-5b-I2V" / "tokenizer"
    assert not (folder / "tokenizer.json").exists()
    words = "the red wall, a green tree on the ﬁeld road"
    expected = SentencePieceProcessor(model_file=str(folder / "spiece.model")).encode(words)
    assert T5Tokenizer.from_pretrained(folder)(words).input_ids == [*expected, 1]


def test_the_prompt_decides(cpu, clip):
    frames, masks = ArraySource(clip.frames[:5, :64, :96], 8), MaskTrack.from_array(clip.masks[:5, :64, :96])
    masks = MaskTrack.still(np.ones(SIZE, bool), 5)
    engine = make()
    one, other = (list(engine(frames, masks, prompt=text)) for text in ("a red wall", "the dog on the road"))
    assert not np.array_equal(one, other)


def test_out_of_memory_is_met_by_the_next_mode(cpu, clip, monkeypatch, caplog):
    spy = Spy(monkeypatch, parts=3, fails_at=lambda calls, part: calls == 1 and part == 2)
    engine = make(memory="fast")
    with caplog.at_level("WARNING", "videopainter"):
        out = run(engine, clip, 6)
    assert [int(frame.mean()) for frame in out] == [0, 1, 2, 3, 4, 5]  # none twice, none left out
    assert (
        engine.options.memory == "balanced"
        and "Out of GPU memory in the mode fast; starting again in balanced" in (caplog.text)
    )
    first, second = (call["generator"] for call in spy.calls)
    assert first is not second and first.initial_seed() == second.initial_seed()


def test_out_of_memory_again_is_one_sentence(cpu, clip, monkeypatch):
    Spy(monkeypatch, fails_at=lambda calls, part: True)
    for mode in ("fast", "minimum"):
        with pytest.raises(EngineError, match="memory is not enough in the mode 'minimum'"):
            run(make(memory=mode), clip, 3)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_inference_steps": 0}, "steps.*not 0"),
        ({"guidance_scale": -1.0}, "guidance.*not -1"),
        ({"overlap": 2}, "`overlap`.*2"),
        ({"overlap": 13}, "`overlap`.*13"),
        ({"window": 7}, "`window`.*7"),
        ({"window": 13}, "9 frames at once at most, not 13"),
        ({"prev_clip_weight": 1.5}, "not 1.5"),
        ({"memory": "tiny"}, "'tiny'"),
        ({"cache": "all"}, "'all'"),
        ({"first_frame": "dalle"}, "'dalle'"),
        ({"device": "tpu"}, "'tpu'"),
    ],
)
def test_values_out_of_range(cpu, options, words):
    with pytest.raises(EngineError, match=words) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


def test_a_prompt_is_needed(cpu, clip):
    with pytest.raises(EngineError, match="needs a prompt"):
        make()(ArraySource(clip.frames[:2], 8), MaskTrack.from_array(clip.masks[:2]))


@pytest.mark.parametrize("gpu, without", [(False, "propagation"), (True, "hybrid")])
def test_auto_takes_it_when_there_is_a_prompt(cpu, monkeypatch, gpu, without):
    monkeypatch.setattr("videopainter.engine.has_gpu", lambda: gpu)
    assert choose_engine("auto")[0].name == "videopainter"
    info, why = choose_engine("auto", with_prompt=False)
    assert info.name == without and "videopainter: needs a prompt" in why


DAMAGES = {
    "CogVideoX-5b-I2V/transformer/config.json": "configuration",
    "CogVideoX-5b-I2V/transformer/diffusion_pytorch_model.safetensors": "cannot be",
    "CogVideoX-5b-I2V/vae/diffusion_pytorch_model.safetensors": "cannot be",
    "CogVideoX-5b-I2V/text_encoder/model.safetensors": "text_encoder' cannot be",
    "CogVideoX-5b-I2V/tokenizer/spiece.model": "text_encoder' cannot be",
    "VideoPainter/checkpoints/branch/diffusion_pytorch_model.safetensors": "branch' cannot be",
    "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors": "cannot be used",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_weights_are_one_sentence(cpu, clip, tmp_path, monkeypatch, name):
    shutil.copytree(cpu, tmp_path / "ckpt")
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path / "ckpt"))
    path = tmp_path / "ckpt" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EngineError, match=DAMAGES[name]) as caught:
        run(make(id_adapter=True), clip, 2)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "branch"])
def test_weights_of_another_network_are_one_sentence(cpu, clip, tmp_path, monkeypatch, part):
    """A tensor is missing: nothing must stay random."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(cpu, tmp_path / "ckpt")
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path / "ckpt"))
    folder = "VideoPainter/checkpoints/branch" if part == "branch" else f"CogVideoX-5b-I2V/{part}"
    path = next((tmp_path / "ckpt" / folder).glob("*.safetensors"))
    tensors = load_file(path)
    del tensors[sorted(tensors)[3]]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(EngineError, match="missing"):
        run(make(), clip, 2)
