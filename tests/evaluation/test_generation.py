"""Sample metrics against hand counts."""

import math

import pytest

from unmask.evaluation.generation import distinct_n, sample_quality, unigram_entropy, word_share, words


def test_words() -> None:
    assert words("O Romeo, wherefore art-thou? 'Tis thee'n 3") == [
        "o",
        "romeo",
        "wherefore",
        "art",
        "thou",
        "tis",
        "thee'n",
    ]


def test_entropy() -> None:
    assert unigram_entropy([[0, 1], [2, 3]]) == pytest.approx(math.log(4))
    assert unigram_entropy([[5, 5, 5]]) == 0
    assert unigram_entropy([[0, 0, 0, 1]]) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_distinct() -> None:
    assert distinct_n(["a b a b", "a b"], 1) == 2 / 6
    assert distinct_n(["a b a b", "a b"], 2) == 2 / 4
    assert distinct_n(["a"], 2) == 1


def test_word_share() -> None:
    assert word_share(["to be zzz"], {"to", "be"}) == 2 / 3
    assert word_share(["..."], {"to"}) == 0
    quality = sample_quality(["to be"], [[1, 2]], {"to", "be"})
    assert quality.word_share == 1
    assert sample_quality(["to be"], [[1, 2]]).word_share is None
