"""Few-step diffusion on every frame: models of Stable Diffusion's kind, as a stream."""
