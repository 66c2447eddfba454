"""Backbones: networks from tokens to logits."""
