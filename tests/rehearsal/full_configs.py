"""Configs of Stable Diffusion 3.5 medium and Flux.1 dev at their real sizes, as data; their tokenizers are of single letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from harness.weights.live_pipeline import CONFIGS
from tests.tiny_pipelines.tokenizers import t5_tokenizer

_VAE: Final = {"_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 16, "layers_per_block": 2,
               "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4,
               "up_block_types": ["UpDecoderBlock2D"] * 4, "norm_num_groups": 32, "sample_size": 1024, "use_quant_conv": False,
               "use_post_quant_conv": False, "force_upcast": True}
_T5: Final = {"model_type": "t5", "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
              "num_heads": 64, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
_FLOW: Final = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
FULL: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "sd3": {
        "transformer": {"_class_name": "SD3Transformer2DModel", "sample_size": 128, "patch_size": 2, "in_channels": 16,
                        "out_channels": 16, "num_layers": 24, "attention_head_dim": 64, "num_attention_heads": 24,
                        "joint_attention_dim": 4096, "caption_projection_dim": 1536, "pooled_projection_dim": 2048,
                        "pos_embed_max_size": 384, "dual_attention_layers": list(range(13)), "qk_norm": "rms_norm"},
        "vae": {**_VAE, "scaling_factor": 1.5305, "shift_factor": 0.0609}, "text_encoder_3": _T5},
    "flux": {
        "transformer": {"_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": 64, "num_layers": 19,
                        "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
                        "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
                        "axes_dims_rope": [16, 56, 56]},
        "vae": {**_VAE, "scaling_factor": 0.3611, "shift_factor": 0.1159}, "text_encoder_2": _T5},
}
"""By family and component, but for the CLIP encoders, which are those of SDXL and SD1."""
_CLIPS: Final = {"sd3": ("text_encoder", "text_encoder_2"), "flux": ("text_encoder",)}


def full_configs(family: str, folder: Path) -> Path:
    """A folder with the configs of the family's model."""
    for component in _CLIPS[family]:
        config = json.loads((CONFIGS / "sdxl" / component / "config.json").read_text(encoding="utf-8"))
        (folder / component).mkdir(parents=True)
        (folder / component / "config.json").write_text(json.dumps(config))
    for component, config in FULL[family].items():
        (folder / component).mkdir(parents=True)
        (folder / component / "config.json").write_text(json.dumps(config))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(_FLOW))
    t5_tokenizer().save_pretrained(folder / ("tokenizer_3" if family == "sd3" else "tokenizer_2"))
    return folder
