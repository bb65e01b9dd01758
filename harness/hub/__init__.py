"""Files of the Hugging Face hub: found in its local cache, by repository, file and revision. Nothing is asked of the network."""

from harness.hub.cache import CachedFile, cached, caches, repository_of

__all__ = ["CachedFile", "cached", "caches", "repository_of"]
