"""Files of the Hugging Face hub: found in its local cache, by repository, file and revision. Nothing is asked of the network."""

from harness.hub.address import FORM, Address, address_of, path_hint
from harness.hub.cache import CachedFile, cached, caches, repository_of

__all__ = ["FORM", "Address", "CachedFile", "address_of", "cached", "caches", "path_hint", "repository_of"]
