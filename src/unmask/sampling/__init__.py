"""Sampling: scores, unmasking rules and the one loop; it sees a denoiser, never a network."""
