"""The only code that opens model files: safe reading, key layouts, live pipelines and atomic writing. Importing it does not
import torch.
"""

from harness.weights.diffusers_call import Call, call_pipeline, embed_text, scaled, unscaled
from harness.weights.files import ModelFileError, StoredTensor, TensorFile, open_tensors, read_header
from harness.weights.hashing import content_hash
from harness.weights.layout import Piece, Placed, layout_of, single_file_layout
from harness.weights.ldm import export_ldm
from harness.weights.live_pipeline import (
    build_pipeline,
    random_sd1,
    random_sdxl,
    reading_with,
    shape_pipeline,
    with_part,
)
from harness.weights.model import COMPONENTS, PARTS, ModelFile, TensorInfo
from harness.weights.opening import open_model
from harness.weights.pipeline import Pipeline, TextEncoder, latent_shape
from harness.weights.sdxl_conditions import added_conditions
from harness.weights.tokenizer import clip_tokenizer, sd1_tokenizer
from harness.weights.write import save_single_file

__all__ = ["COMPONENTS", "PARTS", "Call", "ModelFile", "ModelFileError", "Piece", "Pipeline", "Placed",
           "StoredTensor", "TensorFile", "TensorInfo", "TextEncoder", "added_conditions", "build_pipeline", "call_pipeline",
           "clip_tokenizer", "content_hash", "embed_text", "export_ldm", "latent_shape", "layout_of",
           "open_model", "open_tensors", "random_sd1", "random_sdxl", "read_header", "reading_with", "save_single_file", "scaled",
           "sd1_tokenizer", "shape_pipeline", "single_file_layout", "unscaled", "with_part"]
