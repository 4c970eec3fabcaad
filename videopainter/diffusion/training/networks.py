"""The networks of a training: loaded, frozen, and what of them is trained, as files in the released format."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline
from safetensors.torch import load_file, save

from videopainter.diffusion.branch import VideoPainterBranchModel
from videopainter.diffusion.training.config import TrainingConfig
from videopainter.diffusion.transformer import VideoPainterTransformer3DModel
from videopainter.utils.atomic import whole_file

ADAPTER = "pytorch_lora_weights.safetensors"
LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]


@dataclass
class Networks:
    """All but the text encoder, whose part is done before (`encode_prompts`)."""

    vae: AutoencoderKLCogVideoX
    transformer: VideoPainterTransformer3DModel
    branch: VideoPainterBranchModel
    scheduler: CogVideoXDPMScheduler

    def prepare(self, config: TrainingConfig) -> torch.nn.Module:
        """Freeze all but what is trained, and return that: the branch, or the transformer with a new adapter."""
        for network in (self.vae, self.transformer, self.branch):
            network.requires_grad_(False)
            network.eval()
        trained = self.branch if config.kind == "branch" else self.transformer
        if config.kind == "branch":
            trained.requires_grad_(True)
            trained.float()
            _leave_out_unused(trained)
        else:
            from peft import LoraConfig

            trained.add_adapter(
                LoraConfig(
                    r=config.rank, lora_alpha=config.lora_alpha, init_lora_weights=True, target_modules=LAYERS
                )
            )
            for parameter in trained.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
        trained.train()
        if config.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
            self.branch.enable_gradient_checkpointing()
        return trained


def _leave_out_unused(branch: VideoPainterBranchModel) -> None:
    """What takes no part in the branch's forward has no gradient, for which DistributedDataParallel would wait."""
    for part in (branch.norm_final, branch.norm_out, branch.proj_out, branch.branch_x_embedder):
        part.requires_grad_(False)


def load_networks(
    model: str | os.PathLike,
    config: TrainingConfig,
    branch: str | os.PathLike | None = None,
    dtype: torch.dtype = torch.float32,
) -> Networks:
    """The base model's networks from its folder, and a branch: from a folder, or a new one of the transformer's layers.

    Raises ValueError or OSError for weights that are not there or not whole, and for an adapter without a branch.
    """
    where = Path(model)
    transformer = VideoPainterTransformer3DModel.from_pretrained(where, subfolder="transformer", dtype=dtype)
    if branch is not None:
        encoder = VideoPainterBranchModel.from_pretrained(branch, dtype=dtype)
    elif config.kind == "branch":
        torch.manual_seed(config.seed)
        encoder = VideoPainterBranchModel.from_transformer(
            transformer, num_layers=config.branch_layer_num, wo_text=config.wo_text
        )
    else:
        raise ValueError("An adapter is trained with a branch; say where it is.")
    return Networks(
        vae=AutoencoderKLCogVideoX.from_pretrained(where, subfolder="vae", dtype=dtype),
        transformer=transformer,
        branch=encoder,
        scheduler=CogVideoXDPMScheduler.from_pretrained(where, subfolder="scheduler"),
    )


class PromptCache:
    """Text embeddings by prompt, kept in a folder, so that the text encoder is needed once."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def path(self, prompt: str) -> Path:
        """Where those of a prompt are."""
        return self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()[:24]}.safetensors"

    def fill(
        self, prompts: Iterable[str], model: str | os.PathLike, tokens: int, device, dtype: torch.dtype
    ) -> int:
        """Encode what is not there yet, with the text encoder of the base model's folder; how many there were."""
        missing = sorted({prompt for prompt in prompts if not self.path(prompt).is_file()})
        if not missing:
            return 0
        from transformers import T5EncoderModel, T5Tokenizer

        self.folder.mkdir(parents=True, exist_ok=True)
        encoder = T5EncoderModel.from_pretrained(model, subfolder="text_encoder", dtype=dtype).to(device)
        tokenizer = T5Tokenizer.from_pretrained(model, subfolder="tokenizer")
        reader = CogVideoXImageToVideoPipeline(tokenizer, encoder, None, None, None)
        for prompt in missing:
            with torch.no_grad():
                embeds, _ = reader.encode_prompt(
                    prompt, do_classifier_free_guidance=False, max_sequence_length=tokens, device=device
                )
            with whole_file(self.path(prompt)) as file:
                file.write(save({"embeds": embeds[0].cpu().contiguous()}))
        return len(missing)

    def __getitem__(self, prompt: str) -> torch.Tensor:
        """``[tokens, width]``."""
        return load_file(self.path(prompt))["embeds"]


def save_result(
    folder: Path, model: torch.nn.Module, config: TrainingConfig, state: dict[str, torch.Tensor]
) -> Path:
    """Write what is trained in the released format, which the pipeline loads; the file or folder.

    state: whole weights by name, of which `model` may hold shares only: of the branch, or of the adapter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.kind == "branch":
        with torch.device("meta"):
            unshared = VideoPainterBranchModel.from_config(dict(model.config))
        unshared.load_state_dict(state, assign=True)
        unshared.save_pretrained(folder / "branch")
        return folder / "branch"
    from peft.utils import get_peft_model_state_dict

    # Released adapters have no alpha: pipelines take their product as it is, so the strength goes into one factor.
    strength = config.lora_alpha / config.rank
    scaled_state = {}
    for name, tensor in get_peft_model_state_dict(model, state_dict=state).items():
        scaled = tensor.detach().float() * strength if ".lora_B." in name else tensor.detach().float()
        scaled_state[f"transformer.{name}"] = scaled.cpu().contiguous()
    with whole_file(folder / ADAPTER) as file:
        file.write(save(scaled_state, metadata={"format": "pt"}))
    return folder / ADAPTER
