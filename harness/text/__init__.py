"""What changes the text conditioning at run time: words of textual inversions, weights of tokens, aesthetic gradients.
Importing this imports no torch."""

from harness.text.aesthetic import read_aesthetic
from harness.text.embedding import embed
from harness.text.treatment import PLAIN, Aesthetic, Embedded, Treatment, Word
from harness.text.weighting import WEIGHTINGS, Weighting

__all__ = ["PLAIN", "WEIGHTINGS", "Aesthetic", "Embedded", "Treatment", "Weighting", "Word", "embed", "read_aesthetic"]
