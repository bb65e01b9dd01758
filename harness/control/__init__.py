"""Control networks: the pictures that they follow, their files, and what they add to a live denoiser."""
