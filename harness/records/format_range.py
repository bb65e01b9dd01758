"""The error of values that a number format cannot hold."""


class FormatRangeError(ValueError):
    """Values that are finite as stored and beyond the range of the format that a candidate runs in. The message names the
    tensors, and the formats that hold them."""
