"""ProPainter as transformers knows models."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, ModelOutput

from videopainter.ops.soft_split import Patches
from videopainter.propainter import streaming
from videopainter.propainter.configuration import ProPainterConfig, check_options
from videopainter.propainter.flow_completion import Alignment, FlowCompletion
from videopainter.propainter.generator import Generator
from videopainter.propainter.optical_flow import OpticalFlow
from videopainter.propainter.propagation import GuidedAlignment
from videopainter.propainter.transformer import WindowAttention, around
from videopainter.utils.sentences import first_line, one_line
from videopainter.weights import WeightsError, read_config
from videopainter.weights.check import safetensors_header
from videopainter.weights.load import check_values


@dataclass
class ProPainterOutput(ModelOutput):
    """`reconstruction`: for each video (there is one) the list of its frames, uint8 ``(h, w, 3)`` RGB.

    `hidden_states`: where they are asked for, the tokens before the first and after each block of the transformer, each
    ``(frames of all painting windows one after the other, rows, columns, hidden_size)``.
    """

    reconstruction: list[list[np.ndarray]] | None = None
    hidden_states: tuple[Tensor, ...] | None = None


@dataclass
class ProPainterFrameOutput(ModelOutput):
    """`reconstructed_frames`: the frames, uint8 ``(h, w, 3)`` RGB. `hidden_states`: as in `ProPainterOutput`."""

    reconstructed_frames: list[np.ndarray] | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class ProPainterPreTrainedModel(PreTrainedModel):
    """Loading, saving and fresh weights; loading is strict."""

    config_class = ProPainterConfig
    base_model_prefix = ""
    main_input_name = "pixel_values_videos"
    # Flow loses whole pixels in half precision.
    _keep_in_fp32_modules_strict = ["optical_flow_model"]
    # The published file also holds what only its training needed.
    _keys_to_ignore_on_load_unexpected = [r"^discriminator\."]
    _no_split_modules: list[str] = []

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs
    ):
        """As in transformers, but a missing, unknown or misshapen tensor or a damaged file is a WeightsError.

        A folder with `config.json` and `model.safetensors`, or a name on the Hugging Face Hub; None with ``config`` and
        ``state_dict``. Without safetensors `pytorch_model.bin` is taken, of which only tensors are read. Names may
        begin with "model.", as those of the earlier port do.
        """
        where = pretrained_model_name_or_path
        kwargs["ignore_mismatched_sizes"] = True  # so that they can be told together with the others
        kwargs.setdefault("key_mapping", {r"^model\.": ""})
        if where is not None:
            folder = Path(where, kwargs.get("subfolder") or "")
            if (folder / SAFE_WEIGHTS_NAME).is_file():
                safetensors_header(folder / SAFE_WEIGHTS_NAME)
            if (folder / CONFIG_NAME).is_file():
                read_config(folder / CONFIG_NAME)
        where = "state_dict" if where is None else where
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except SafetensorError as error:
            raise WeightsError(
                f"The weights in '{where}' are damaged or cut off: {first_line(error)}."
            ) from None
        except (WeightsError, OSError):
            raise
        except Exception as error:
            if torch.get_default_device().type == "meta":  # transformers says that nothing is loaded there
                raise
            # Of a configuration that makes no network, whatever PyTorch stumbles over
            raise WeightsError(f"The network in '{where}' cannot be made: {first_line(error)}.") from error
        info["missing_keys"] -= _restore_twins(model, set(info["missing_keys"]))
        misfits = [
            ("missing", sorted(info["missing_keys"])),
            ("unknown", sorted(info["unexpected_keys"])),
            ("of another shape", sorted(name for name, *_ in info["mismatched_keys"])),
        ]
        raise_misfits(os.fspath(where), misfits)
        check_values(model.state_dict(), where)
        return (model, info) if output_loading_info else model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (Alignment, GuidedAlignment)):
            init.normal_(module.weight, std=self.config.initializer_range)
            init.zeros_(module.bias)
        elif isinstance(module, WindowAttention):
            init.copy_(module.valid_ind_rolled, around(module.window))


class ProPainterModel(ProPainterPreTrainedModel):
    """Video inpainting and outpainting: optical flow, flow completion, propagation, transformer.

    Example::

        inputs = ProPainterVideoProcessor()(video, masks=masks, return_tensors="pt")
        frames = ProPainterModel.from_pretrained("ckpt/propainter")(**inputs)["reconstruction"][0]

    For inference only. `paint` works through a video of any length in memory that does not grow.
    """

    def __init__(self, config: ProPainterConfig):
        super().__init__(config)
        patches = Patches(
            tuple(config.kernel_size), tuple(config.conv2d_stride), tuple(config.padding_inpaint_generator)
        )
        self.optical_flow_model = OpticalFlow(
            config.num_channels, tuple(config.channels), config.correlation_levels, config.correlation_radius
        )
        self.flow_completion_net = FlowCompletion(config.num_channels, config.deform_groups)
        self.inpaint_generator = Generator(
            channels=config.num_channels,
            groups=config.deform_groups,
            dim=config.hidden_size,
            depth=config.num_hidden_layers,
            heads=config.num_attention_heads,
            hidden=config.intermediate_size,
            window=tuple(config.window_size),
            pool=tuple(config.pool_size),
            patches=patches,
        )
        self.post_init()
        self.eval()

    def forward(
        self,
        pixel_values_videos: Tensor,
        flow_masks: Tensor,
        masks_dilated: Tensor,
        return_dict: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> ProPainterOutput | tuple:
        """Paint one video.

        Args:
            pixel_values_videos: floating ``(1, t, 3, h, w)`` in 0..1; h and w at least 16. They are taken as the
                8-bit values they were made from.
            flow_masks: ``(1, t, 1, h, w)``, not 0 where the flow cannot be trusted.
            masks_dilated: ``(1, t, 1, h, w)``, not 0 where the picture is painted.
            return_dict: False for a tuple; None: as the configuration says.
            output_hidden_states: keep the transformer's tokens, in memory that grows with the video; None: as the
                configuration says.
            output_attentions: only False is possible: attention is computed window by window, without a matrix.

        Returns `ProPainterOutput`. Outside `masks_dilated` the frames are those given. Raises ValueError for
        other shapes, for more than one video, for frames under 16 pixels and for `output_attentions`.
        """
        if self.config.output_attentions if output_attentions is None else output_attentions:
            raise ValueError(
                "ProPainter gives no output_attentions: it attends window by window, without a matrix of weights."
            )
        keep = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        clip = TensorClip(pixel_values_videos, flow_masks, masks_dilated)
        with _kept_states(self.inpaint_generator.transformers.transformer if keep else []) as states:
            frames = list(self.paint(clip))
        use_dict = self.config.return_dict if return_dict is None else return_dict
        hidden = tuple(torch.cat(parts) for parts in states) if keep else None
        if use_dict:
            return ProPainterOutput(reconstruction=[frames], hidden_states=hidden)
        return ([frames],) if hidden is None else ([frames], hidden)

    def paint(
        self,
        clip: streaming.Clip,
        neighbor_length: int | None = None,
        ref_stride: int | None = None,
        subvideo_length: int | None = None,
        raft_iter: int | None = None,
        watch: Callable[[str, int, Tensor], None] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the finished frames of ``clip`` in order; see `streaming.paint`. None: as the configuration says."""
        if self.training:
            raise ValueError("ProPainterModel is for inference only; call eval() first.")
        given = {
            "neighbor_length": neighbor_length,
            "ref_stride": ref_stride,
            "subvideo_length": subvideo_length,
            "raft_iter": raft_iter,
        }
        options = {
            name: getattr(self.config, name) if value is None else value for name, value in given.items()
        }
        check_options(**options)
        extra: dict[str, Any] = {} if watch is None else {"watch": watch}
        return streaming.paint(self.networks, clip, streaming.Settings(**options), **extra)

    @property
    def networks(self) -> streaming.Networks:
        weight = self.inpaint_generator.soft_split.embedding.weight
        return streaming.Networks(
            flow=self.optical_flow_model,
            completion=self.flow_completion_net,
            generator=self.inpaint_generator,
            device=weight.device,
            dtype=weight.dtype,
        )


class _EarlierPort(ProPainterModel):
    main_input_name = "frames"

    def forward(
        self,
        frames: Tensor,
        flow_masks: Tensor,
        masks_dilated: Tensor,
        frames_inp: Tensor | None = None,
        return_dict: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> ProPainterFrameOutput | tuple:
        """Paint one video; what `ProPainterImageProcessor` makes.

        Args:
            frames: floating ``(1, t, 3, h, w)`` in -1..1.
            flow_masks, masks_dilated: as for `ProPainterModel`.
            frames_inp: uint8 ``(1, t, h, w, 3)``, the same frames; None: they follow from `frames`.
            return_dict, output_hidden_states, output_attentions: as for `ProPainterModel`.

        Returns `ProPainterFrameOutput`; raises ValueError as `ProPainterModel` does.
        """
        if frames_inp is None:
            values = (frames + 1) / 2
        else:
            values = frames_inp.movedim(-1, 2) / 255
        (painted,), *hidden = super().forward(
            values, flow_masks, masks_dilated, False, output_hidden_states, output_attentions
        )
        use_dict = self.config.return_dict if return_dict is None else return_dict
        return ProPainterFrameOutput(painted, *hidden) if use_dict else (painted, *hidden)


class ProPainterForImageInPainting(_EarlierPort):
    """The earlier port's name for painting inside frames."""


class ProPainterForImageOutPainting(_EarlierPort):
    """The earlier port's name for painting around frames; the processor makes the larger canvas."""


class TensorClip:
    """One video that lies in tensors; see `ProPainterModel.forward`."""

    def __init__(self, values: Tensor, flow_masks: Tensor, masks: Tensor):
        for name, tensor, channels in (
            ("pixel_values_videos", values, 3),
            ("flow_masks", flow_masks, 1),
            ("masks_dilated", masks, 1),
        ):
            if not isinstance(tensor, Tensor):
                raise ValueError(f"{name} must be a tensor, not {type(tensor).__name__}.")
            if tensor.ndim != 5 or tensor.shape[2] != channels:
                raise ValueError(
                    f"{name} must be (1, frames, {channels}, height, width), not {tuple(tensor.shape)}."
                )
            if tensor.shape[0] != 1:
                raise ValueError(f"ProPainter takes one video at a time, not a batch of {tensor.shape[0]}.")
            if tensor.shape[1] == 0:
                raise ValueError(f"{name} has no frames.")
            if (tensor.shape[1], *tensor.shape[3:]) != (values.shape[1], *values.shape[3:]):
                raise ValueError(f"{name} {tuple(tensor.shape)} do not fit frames of {tuple(values.shape)}.")
        if not values.is_floating_point():
            raise ValueError(
                f"pixel_values_videos must be floating point values in 0..1, not {values.dtype}."
            )
        self.values, self.flow_masks, self.masks = values[0], flow_masks[0], masks[0]

    def __len__(self) -> int:
        return len(self.values)

    def frame(self, i: int) -> np.ndarray:
        levels = (self.values[i].float() * 255).round()
        if not (levels.min() >= 0 and levels.max() <= 255):
            low, high = self.values[i].min().item(), self.values[i].max().item()
            raise ValueError(f"pixel_values_videos must lie in 0..1, not {low:g}..{high:g} (frame {i}).")
        return levels.to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    def hole(self, i: int) -> np.ndarray:
        return (self.masks[i, 0] > 0).cpu().numpy()

    def flow_hole(self, i: int) -> np.ndarray:
        return (self.flow_masks[i, 0] > 0).cpu().numpy() | self.hole(i)


@contextmanager
def _kept_states(blocks: Sequence[nn.Module]) -> Iterator[list[list[Tensor]]]:
    """Lists that fill with what goes into the first block, and with what comes out of each, call by call."""
    states: list[list[Tensor]] = [[] for _ in range(len(blocks) + 1)]

    def before(module, args):
        states[0].append(args[0])

    def after(number):
        return lambda module, args, output: states[number].append(output)

    hooks = [block.register_forward_hook(after(i)) for i, block in enumerate(blocks, 1)]
    hooks += [block.register_forward_pre_hook(before) for block in blocks[:1]]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def raise_misfits(where: str, misfits: list[tuple[str, list[str]]]) -> None:
    """One WeightsError for all (what is wrong, names of tensors), if there are any."""
    found = [f"{len(names)} {what} (such as {one_line(names[0], 120)})" for what, names in misfits if names]
    if found:
        raise WeightsError(f"The weights in '{where}' are not those of ProPainter: {', '.join(found)}.")


@torch.no_grad()
def _restore_twins(model: nn.Module, missing: set[str]) -> set[str]:
    """One layer is kept under two names; files may hold one of them only. Returns the names that were filled."""
    state = model.state_dict(keep_vars=True)
    filled = set()
    for name in missing:
        for one, other in ((".norm3.", ".downsample.1."), (".downsample.1.", ".norm3.")):
            twin = name.replace(one, other)
            if twin != name and twin in state and twin not in missing:
                state[name].data.copy_(state[twin].data)
                filled.add(name)
    return filled


AutoConfig.register(ProPainterConfig.model_type, ProPainterConfig, exist_ok=True)
AutoModel.register(ProPainterConfig, ProPainterModel, exist_ok=True)
