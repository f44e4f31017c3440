"""The embedding of the empty prompt, made once from Stable Diffusion's text encoder: a frozen part of its networks.

`python -m sr_models prompt SD_FOLDER OUT`. Tokenizer and encoder (OpenCLIP's ViT-H/14, https://arxiv.org/abs/2212.07143)
are those of https://github.com/huggingface/transformers, by the extra [latent]. Stable Diffusion 2.1 is conditioned on
the encoder's last layer but one, after its last normalisation; diffusers' folder of it holds no further layer.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from sr_models.errors import InputError
from sr_models.files import replacing


def write_prompt(folder: Path, out: Path) -> tuple[tuple[int, ...], str]:
    """Write the embedding, (1, tokens, channels) float32, as safetensors; returns its shape and the file's sha256.

    Args:
        folder: of diffusers', with tokenizer/ and text_encoder/; nothing is fetched.

    Raises:
        InputError: transformers is not installed, or the folder lacks one of both.
    """
    if find_spec("transformers") is None:
        raise InputError("prompt needs transformers, which is not installed: pip install 'sr-sweep[latent]'")
    for inside in ("tokenizer", "text_encoder"):
        if not (folder / inside).is_dir():
            raise InputError(f"SD_FOLDER {str(folder)!r} has no folder {inside}: it is to be one of diffusers'")
    import safetensors.torch
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(
            str(folder / "text_encoder"), local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise InputError(f"SD_FOLDER {str(folder)!r}: {' '.join(str(error).split())}") from None
    length = tokenizer.model_max_length
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        embedding = encoder.eval()(tokens).last_hidden_state.float().contiguous()
    payload = safetensors.torch.save({"prompt": embedding})
    with replacing(out) as part:
        part.write_bytes(payload)
    return tuple(embedding.shape), hashlib.sha256(payload).hexdigest()
