"""What samples look like: entropy, repetition, and how many of their words are words."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@dataclass(frozen=True)
class SampleQuality:
    """Figures of a set of samples.

    Attributes:
        unigram_entropy: of the tokens of all samples together, nats; low means a poor vocabulary.
        distinct_1, distinct_2, distinct_3: different word n-grams / all word n-grams, over all samples.
        word_share: the share of words that occur in the reference text; None without one.
    """

    unigram_entropy: float
    distinct_1: float
    distinct_2: float
    distinct_3: float
    word_share: float | None


def words(text: str) -> list[str]:
    """The words of a text, in lower case; an apostrophe inside a word belongs to it."""
    return WORD.findall(text.lower())


def unigram_entropy(samples: Iterable[Sequence[int]]) -> float:
    """The entropy of the token frequencies, nats."""
    counts = Counter(token for sample in samples for token in sample)
    total = sum(counts.values())
    return sum(n / total * math.log(total / n) for n in counts.values())


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Different word n-grams over all word n-grams (Li et al., 2016); n-grams never cross samples. 1 when there are none."""
    grams = [gram for text in texts for gram in zip(*(words(text)[i:] for i in range(n)), strict=False)]
    return len(set(grams)) / len(grams) if grams else 1.0


def word_share(texts: Iterable[str], vocabulary: set[str]) -> float:
    """The share of generated words that are in the vocabulary; 0 when there is no word at all."""
    found = [word in vocabulary for text in texts for word in words(text)]
    return sum(found) / len(found) if found else 0.0


def sample_quality(
    texts: Sequence[str], tokens: Sequence[Sequence[int]], vocabulary: set[str] | None = None
) -> SampleQuality:
    """All figures at once."""
    return SampleQuality(
        unigram_entropy(tokens),
        *(distinct_n(texts, n) for n in (1, 2, 3)),
        word_share=None if vocabulary is None else word_share(texts, vocabulary),
    )
