"""How the files of a published model are called, and what is called how inside: diffusers' layout. No torch."""

from __future__ import annotations

import re

FULL_FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
"""Weights of a full fine-tune, by the network that they replace."""
LORA_FILE = "pytorch_lora_weights.safetensors"
LORA_METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers finds rank and alpha in a LoRA's file."""
LORA_NAME = re.compile(  # as peft, diffusers and, for text encoders, older diffusers name them
    r"(?P<module>(?:unet|text_encoder)\..+)\."
    r"(?:(?P<down>lora_A|lora\.down|lora_linear_layer\.down)|lora_B|lora\.up|lora_linear_layer\.up)\.weight"
)
"""One of the two factors that a LoRA adds to a module's weight."""
UNSUPPORTED_LORA_SETTINGS = ("rank_pattern", "alpha_pattern", "use_dora", "lora_bias")
