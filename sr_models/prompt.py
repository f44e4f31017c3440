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

NAMED = 3
"""How many of the weights that a folder lacks its refusal names."""


def write_prompt(folder: Path, out: Path) -> tuple[tuple[int, ...], str]:
    """Write the embedding, (1, tokens, channels) float32, as safetensors; returns its shape and the file's sha256.

    Args:
        folder: of diffusers', with tokenizer/ and text_encoder/ (safetensors alone); nothing is fetched.
        out: a file that is not there yet, for networks know theirs by its hash.

    Raises:
        InputError: transformers is not installed, `out` is there, or the folder lacks a file or a weight, or has one
            that cannot be used.
    """
    if out.exists():
        raise InputError(f"{out} is there already; give another name, or remove it")
    if find_spec("transformers") is None:
        raise InputError("prompt needs transformers, which is not installed: pip install 'sr-sweep[latent]'")
    where = f"SD_FOLDER {str(folder)!r}"
    for inside in ("tokenizer/tokenizer_config.json", "text_encoder/config.json"):  # transformers has defaults for both
        if not (folder / inside).is_file():
            raise InputError(f"{where} has no {inside}: it is to be one of diffusers'")
    import safetensors.torch
    import torch
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what it warns of, weights that it had to draw at random, is refused below
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
        encoder, loaded = CLIPTextModel.from_pretrained(
            str(folder / "text_encoder"), local_files_only=True, use_safetensors=True, dtype=torch.float32,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # its readers raise almost anything on damaged files
        raise InputError(f"{where}: {' '.join(str(error).split())}") from None
    if drawn := sorted({*loaded["missing_keys"], *(name for name, *_ in loaded["mismatched_keys"])}):
        raise InputError(
            f"{where}: text_encoder/ lacks weights that its config.json asks for, or has them in another shape: "
            f"{', '.join(drawn[:NAMED])}{', ...' * (len(drawn) > NAMED)}"
        )
    knows = len(tokenizer), tokenizer.model_max_length
    takes = encoder.config.vocab_size, encoder.config.max_position_embeddings
    if knows != takes:  # a tokenizer/ without its vocabulary is one of three tokens
        raise InputError(f"{where}: (tokens, length) are {knows} of the tokenizer and {takes} of the text encoder")
    tokens = tokenizer("", padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        embedding = encoder.eval()(tokens).last_hidden_state.contiguous()
    payload = safetensors.torch.save({"prompt": embedding})
    with replacing(out) as part:
        part.write_bytes(payload)
    return tuple(embedding.shape), hashlib.sha256(payload).hexdigest()
