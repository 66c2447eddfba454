"""Text: corpora, tokenizers, token shards, batches, and templates with holes."""
