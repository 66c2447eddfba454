"""The mathematics of discrete diffusion: tensors in, tensors out, no network."""
