"""Tiny pipelines of random weights, made by the library's own classes and saved to a folder."""

import json

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    LDMSuperResolutionPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionLatentUpscalePipeline,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TEXT = 32


def ldm(widths=(32, 64), codec=(32, 32, 32), layers=1):
    """LDM-SR ×4; its full size is (160, 320, 320, 640), (128, 256, 512), 2."""
    inner = len(widths) - 1
    unet = UNet2DModel(
        in_channels=6, out_channels=3, block_out_channels=widths, layers_per_block=layers,
        down_block_types=("DownBlock2D", *("AttnDownBlock2D",) * inner),
        up_block_types=(*("AttnUpBlock2D",) * inner, "UpBlock2D"),
    )  # fmt: skip
    decoder = VQModel(
        latent_channels=3, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=codec,
        layers_per_block=layers, num_vq_embeddings=2 * codec[0],
    )  # fmt: skip
    return LDMSuperResolutionPipeline(decoder, unet, DDIMScheduler())


def _text(folder):
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=TEXT, intermediate_size=37, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
        pad_token_id=1,
    )  # fmt: skip
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16), CLIPTextModel(config)


def _codec(*widths):
    return AutoencoderKL(
        block_out_channels=widths, latent_channels=4, scaling_factor=0.08333,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
    )  # fmt: skip


def _unet(inputs, outputs=4, widths=(32, 64), **options):
    inner = len(widths) - 1
    return UNet2DConditionModel(
        in_channels=inputs, out_channels=outputs, block_out_channels=widths,
        layers_per_block=1 if inner == 1 else 2, attention_head_dim=8, cross_attention_dim=TEXT,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * inner),
        up_block_types=(*("CrossAttnUpBlock2D",) * inner, "UpBlock2D"), sample_size=64, **options,
    )  # fmt: skip


def upscale(folder, widths=(32, 64), codec=(32, 32, 32)):
    """The ×4 upscaler of Stable Diffusion; its full size: (256, 512, 512, 1024), (128, 256, 512).

    The text encoder stays tiny: it runs once, at the start.
    """
    tokenizer, text = _text(folder)
    return StableDiffusionUpscalePipeline(
        vae=_codec(*codec), text_encoder=text, tokenizer=tokenizer,
        unet=_unet(7, widths=widths, num_class_embeds=350), low_res_scheduler=DDPMScheduler(),
        scheduler=DDIMScheduler(prediction_type="v_prediction"),
    )  # fmt: skip


def latent(folder):
    """The ×2 upscaler in the latent grid."""
    tokenizer, text = _text(folder)
    unet = _unet(8, 5, time_cond_proj_dim=128 + TEXT)
    scheduler = EulerDiscreteScheduler(prediction_type="sample")
    codec = _codec(32, 32, 32, 32)
    return StableDiffusionLatentUpscalePipeline(codec, text, tokenizer, unet, scheduler)


def image_to_image(folder):
    tokenizer, text = _text(folder)
    return StableDiffusionImg2ImgPipeline(
        vae=_codec(32, 32, 32, 32), text_encoder=text, tokenizer=tokenizer, unet=_unet(4),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def saved(pipe, folder):
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def make(kind, folder):
    """A tiny pipeline of that kind in a folder, the same every time."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "ldm":
        return saved(ldm(), folder / kind)
    build = {"upscale": upscale, "latent": latent, "image_to_image": image_to_image}[kind]
    return saved(build(folder / "tokens"), folder / kind)
