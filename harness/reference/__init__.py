"""Reference pictures: the files of IP-Adapters, the encoders of their pictures, and what they add to the attention of a live
U-Net.

Importing it does not import torch.
"""

from harness.reference.kinds import PLAIN, PLUS
from harness.reference.reading import ImagePrompt, read_image_prompt

__all__ = ["PLAIN", "PLUS", "ImagePrompt", "read_image_prompt"]
