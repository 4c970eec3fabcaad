"""The networks of VideoPainter's pipeline: how they are taken over, adapted and offloaded, and what each does alone."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.hooks import apply_group_offloading
from transformers import T5EncoderModel, T5Tokenizer

from videopainter.diffusion.branch import VideoPainterBranchModel
from videopainter.diffusion.loading import check_whole
from videopainter.diffusion.rotary import prepare_rotary_tables
from videopainter.diffusion.settings import PipelineSettings
from videopainter.diffusion.transformer import VideoPainterTransformer3DModel
from videopainter.diffusion.vae import StreamingDecoder
from videopainter.diffusion.vae.lean import make_lean

CPU = torch.device("cpu")


class VideoPainterComponents(CogVideoXImageToVideoPipeline):
    """The base model's pipeline with VideoPainter's transformer and its branch; `VideoPainterPipeline` calls them.

    Args:
        tokenizer, text_encoder: T5; not needed where ``prompt_embeds`` are given.
        vae: the base model's; its layers are replaced by leaner ones with the same weights and the same results
            (`make_lean`).
        transformer: of VideoPainter, or the base model's, whose weights are then taken over without a copy.
        scheduler: any CogVideoX scheduler. As in the reference its configuration is used for the DPM scheduler
            with trailing timesteps; to use another one set ``pipe.scheduler`` afterwards.
        branch: VideoPainter's context encoder.

    With None in place of a network `encode_prompt` still works.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _exclude_from_cpu_offload = ["branch"]  # needed at every step with the transformer, and small
    _optional_components = ["tokenizer", "text_encoder"]

    def __init__(
        self,
        tokenizer: T5Tokenizer | None,
        text_encoder: T5EncoderModel | None,
        vae: AutoencoderKLCogVideoX,
        transformer: VideoPainterTransformer3DModel | CogVideoXTransformer3DModel | None,
        scheduler: CogVideoXDPMScheduler,
        branch: VideoPainterBranchModel,
    ):
        for name, network in (("transformer", transformer), ("vae", vae), ("branch", branch)):
            if network is not None:
                check_whole(name, network)
        if transformer is not None and not isinstance(transformer, VideoPainterTransformer3DModel):
            transformer = VideoPainterTransformer3DModel.from_transformer(transformer)
        ours = type(scheduler) is CogVideoXDPMScheduler and scheduler.config.timestep_spacing == "trailing"
        if scheduler is not None and not ours:
            scheduler = CogVideoXDPMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
        if vae is not None:
            make_lean(vae)
        super().__init__(tokenizer, text_encoder, vae, transformer, scheduler)
        self.register_modules(branch=branch)

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | dict[str, torch.Tensor],
        adapter_name: str | None = None,
        hotswap: bool = False,
        **kwargs: Any,
    ) -> None:
        """As in diffusers; an adapter that does not fit, or not at all (there a warning), is a ValueError."""
        source = pretrained_model_name_or_path_or_dict
        where = "The dictionary" if isinstance(source, dict) else f"'{source}'"
        before = set(getattr(self.transformer, "peft_config", {}))
        try:
            super().load_lora_weights(source, adapter_name, hotswap, **kwargs)
        except RuntimeError as error:
            if not str(error).startswith("Error(s) in loading state_dict"):  # such as too little memory
                raise
            reason = " ".join(str(error).split("\n", 2)[:2])
            raise ValueError(f"{where} does not fit VideoPainter's transformer: {reason}") from error
        if not hotswap and set(getattr(self.transformer, "peft_config", {})) == before:
            raise ValueError(f"{where} holds no adapter for VideoPainter's transformer.")

    def enable_group_offload(
        self,
        onload_device: torch.device,
        offload_device: torch.device = CPU,
        offload_type: str = "block_level",
        num_blocks_per_group: int | None = None,
        offload_to_disk_path: str | None = None,
        exclude_modules: str | list[str] | None = None,
        **options: Any,
    ) -> None:
        """As in diffusers, with what it leaves to the caller.

        The VAE goes by leaves: `encode` and `decode` call no hook of the whole VAE. On the disk every network has
        a folder of its own, as transformer and branch have blocks of the same names, and the text encoder goes as
        a whole: its embedding, which two of its leaves share, would be saved after it was emptied.
        """
        excluded = [exclude_modules] if isinstance(exclude_modules, str) else exclude_modules or []
        for name, network in self.components.items():
            if not isinstance(network, torch.nn.Module):
                continue
            if name in excluded:
                network.to(onload_device)
                continue
            kind, folder = "leaf_level" if name == "vae" else offload_type, None
            if offload_to_disk_path is not None:
                kind = "block_level" if name == "text_encoder" else kind
                folder = Path(offload_to_disk_path) / name
                folder.mkdir(parents=True, exist_ok=True)
            apply_group_offloading(
                network,
                onload_device=onload_device,
                offload_device=offload_device,
                offload_type=kind,
                num_blocks_per_group=num_blocks_per_group or (1 if kind != offload_type else None),
                offload_to_disk_path=folder and str(folder),
                **options,
            )

    # --- the steps of a call that need one network each ---------------------------------------------------------

    def prepare_prompt_embeds(self, settings: PipelineSettings, device: torch.device) -> torch.Tensor:
        """``[rows, tokens, width]`` for every result, negative ones first where there is guidance."""
        copies = settings.num_videos_per_prompt
        positive, negative = self.encode_prompt(
            prompt=settings.prompt,
            negative_prompt=settings.negative_prompt,
            do_classifier_free_guidance=settings.guided,
            num_videos_per_prompt=copies,
            prompt_embeds=settings.prompt_embeds,
            negative_prompt_embeds=settings.negative_prompt_embeds,
            max_sequence_length=settings.max_sequence_length,
            device=device,
        )
        if settings.prompt_embeds is not None:
            positive = positive.repeat_interleave(copies, 0)
        if settings.guided:
            if settings.negative_prompt_embeds is not None:
                negative = negative.repeat_interleave(copies, 0)
            positive = torch.cat([negative.to(positive), positive])
        dtype = self.transformer.dtype  # not a float where weights are quantized
        return positive.to(device, dtype if dtype.is_floating_point else positive.dtype)

    def decode_latents(
        self, latents: torch.Tensor, decoder: StreamingDecoder | None = None
    ) -> torch.Tensor | None:
        """Frames ``[batch, 3, frames, height, width]`` of latents ``[batch, latent frames, 16, h, w]``.

        With a decoder the latents go on where its last ones ended; None if there are too few to decode yet.
        """
        if decoder is None:
            decoder = StreamingDecoder(self.vae, latents.shape[1])
        latents = latents.permute(0, 2, 1, 3, 4) / self.vae_scaling_factor_image
        return decoder.push(latents.to(self.vae.dtype))

    def postprocess(self, part: torch.Tensor, output_type: str) -> Any:
        """What the caller gets for decoded frames, or for latents if ``output_type`` is "latent"."""
        if output_type == "latent":
            return part.cpu()
        done = self.video_processor.postprocess_video(part, output_type=output_type)
        return done.cpu() if output_type == "pt" else done

    def _prepare_rotary_positional_embeddings(
        self, height: int, width: int, num_frames: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """diffusers' step of this name, with the positions that CogVideoX was trained with."""
        config = self.transformer.config
        if not config.use_rotary_positional_embeddings:
            return None
        cell = self.vae_scale_factor_spatial * config.patch_size
        return prepare_rotary_tables(config.attention_head_dim, cell, (height, width), num_frames, device)
