"""Thoughts: tensors that ride along with the text. No language model here."""
