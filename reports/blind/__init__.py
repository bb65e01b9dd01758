"""The blind page: raters judge images without knowing what made them."""
