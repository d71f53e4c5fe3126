"""Diffusion models of a few megabytes with random weights, saved as real ones are. Needs `limner[diffusion]`."""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

VAE = {
    "block_out_channels": [32, 64],
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
}
BLOCKS = {
    "block_out_channels": (32, 64),
    "layers_per_block": 2,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def _letters() -> list[str]:
    """The 256 characters that stand for bytes in the vocabularies of CLIP."""
    found = [*range(33, 127), *range(161, 173), *range(174, 256)]
    missing = [byte for byte in range(256) if byte not in found]
    return [*map(chr, found), *(chr(256 + number) for number in range(len(missing)))]


def _tokenizer() -> tuple[Any, int]:
    from transformers import CLIPTokenizer

    letters = _letters()
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}))
        merges.write_text("#version: 0.2\n")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=77), len(words)


def _text_config(count: int, **more: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        bos_token_id=count - 2,
        eos_token_id=count - 1,
        pad_token_id=count - 1,
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=5,
        vocab_size=count,
        **more,
    )


def _sd(channels: int) -> dict[str, Any]:
    import diffusers
    import transformers

    tokenizer, count = _tokenizer()
    return {
        "unet": diffusers.UNet2DConditionModel(sample_size=32, in_channels=channels, cross_attention_dim=32, **BLOCKS),
        "scheduler": diffusers.EulerAncestralDiscreteScheduler(),
        "vae": diffusers.AutoencoderKL(latent_channels=4, **VAE),
        "text_encoder": transformers.CLIPTextModel(_text_config(count)).eval(),
        "tokenizer": tokenizer,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def sd() -> Any:
    """Stable Diffusion."""
    import diffusers

    return diffusers.StableDiffusionPipeline(**_sd(4))


def pix2pix() -> Any:
    """instruct-pix2pix."""
    import diffusers

    return diffusers.StableDiffusionInstructPix2PixPipeline(**_sd(8))


def sdxl() -> Any:
    """SDXL."""
    import diffusers
    import transformers

    (tokenizer, count), (tokenizer_2, _) = _tokenizer(), _tokenizer()
    config = _text_config(count, projection_dim=32, hidden_act="gelu")
    return diffusers.StableDiffusionXLPipeline(
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 2),
            projection_class_embeddings_input_dim=80,
            cross_attention_dim=64,
            **BLOCKS,
        ),
        vae=diffusers.AutoencoderKL(latent_channels=4, sample_size=128, **VAE),
        text_encoder=transformers.CLIPTextModel(config).eval(),
        text_encoder_2=transformers.CLIPTextModelWithProjection(config).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )


def _flux(guidance: bool) -> dict[str, Any]:
    import diffusers
    import transformers

    (tokenizer, count), (tokenizer_2, _) = _tokenizer(), _tokenizer()
    tokenizer_2.model_max_length = 512
    return {
        "transformer": diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guidance,
        ),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": diffusers.AutoencoderKL(
            latent_channels=4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0609,
            scaling_factor=1.5035,
            **VAE,
        ),
        "text_encoder": transformers.CLIPTextModel(_text_config(count, projection_dim=32)).eval(),
        "text_encoder_2": transformers.T5EncoderModel(
            transformers.T5Config(d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, vocab_size=count)
        ).eval(),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer_2,
    }


def flux() -> Any:
    """FLUX.1."""
    import diffusers

    return diffusers.FluxPipeline(**_flux(guidance=True))


def kontext() -> Any:
    """FLUX.1 Kontext."""
    import diffusers

    return diffusers.FluxKontextPipeline(**_flux(guidance=True))


ALL: dict[str, Callable[[], Any]] = {"sd": sd, "sdxl": sdxl, "pix2pix": pix2pix, "flux": flux, "kontext": kontext}


def save(name: str, folder: Path, **options: Any) -> None:
    """Make the model with the same weights each time, and save it."""
    import torch

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries warn of their own future
        ALL[name]().save_pretrained(folder, safe_serialization=True, **options)
