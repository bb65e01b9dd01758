"""Files of the Hugging Face hub: addresses of them, and their places in its local cache. Nothing is asked of the network, except
by `fetching`."""

from harness.hub.address import (
    FORM,
    PREFIX,
    Address,
    HubError,
    NotInCacheError,
    address_of,
)
from harness.hub.cache import CachedFile, cached, caches, repository_of
from harness.hub.pinning import addresses, as_ran, moved, pinned
from harness.hub.places import how_to_fetch, identity_of, in_cache, is_path, parsed, place

__all__ = ["FORM", "PREFIX", "Address", "CachedFile", "HubError", "NotInCacheError", "address_of", "addresses", "as_ran",
           "cached", "caches", "how_to_fetch", "identity_of", "in_cache", "is_path", "moved", "parsed", "pinned", "place",
           "repository_of"]
