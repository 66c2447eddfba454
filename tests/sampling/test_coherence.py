"""QBERT's parts: spaced positions, refinement, candidates weighed by meaning, acceptance, memory."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conftest import random_model
from unmask.config import build_sampler
from unmask.diffusion.denoiser import Subs
from unmask.sampling.acceptance import Run, accept, rounded, run, runs
from unmask.sampling.coherence import Coherent, Matrix, Scales
from unmask.sampling.controls import Controls
from unmask.sampling.frame import Frame, State
from unmask.sampling.loop import denoise
from unmask.sampling.memory import SemanticMemory
from unmask.sampling.picking import Narrowing, Proposal, shortlist
from unmask.sampling.refining import Refine, spread

VOCAB, MASK = 12, 11
MODEL = Subs(random_model(VOCAB, length=64), MASK)
WORDS = F.normalize(torch.randn(VOCAB, 8, generator=torch.Generator().manual_seed(3)), dim=-1)


class Toy:
    """Meanings that depend on a run's tokens and a little on their order; counts what it is asked."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, asked: Sequence[Run]) -> Tensor:
        self.calls.append(len(asked))
        rows = []
        for tokens in asked:
            weights = torch.arange(len(tokens)).cos() + 2
            mixed = (WORDS[list(tokens)] * weights[:, None]).sum(0) if tokens else torch.ones(8)
            rows.append(F.normalize(mixed, dim=-1))
        return torch.stack(rows)


def frames(canvas: Tensor, sampler: object, seeds: Sequence[int], temperature: float = 1.0) -> list[Frame]:
    rows = len(canvas)
    return list(
        denoise(
            MODEL,
            canvas,
            sampler,  # type: ignore[arg-type]
            steps=torch.full((rows,), canvas.shape[1]),
            seeds=torch.tensor(seeds),
            controls=Controls.of(rows, temperature=temperature),
        )
    )


def canvas(rows: int, length: int, prompt: int = 3) -> Tensor:
    tokens = torch.full((rows, length), MASK)
    tokens[:, :prompt] = torch.arange(prompt)
    return tokens


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 12))
def test_positions_are_evenly_spread(among: list[bool], count: int) -> None:
    chosen = spread(torch.tensor([among]), count)[0]
    places = torch.tensor(among).nonzero()[:, 0].tolist()
    picked = [places.index(place) for place in chosen.nonzero()[:, 0].tolist()]
    assert len(picked) == min(count, len(places))
    if picked:
        assert picked[0] == 0
    gaps = [b - a for a, b in zip(picked, picked[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_ten_at_first_then_ten_more_and_the_unsure_again() -> None:
    sampler = build_sampler("qbert:diffusion_steps=4", "linear")
    seen = frames(canvas(2, 28), sampler, [0, 1])
    left = [(frame.tokens == MASK).sum(-1).tolist() for frame in seen]
    # 10 of 25, of which a fifth is dropped; these and 10 more, of which a fifth is dropped; all, of which a fifth is dropped
    assert left == [[25, 25], [17, 17], [9, 9], [5, 5], [0, 0]]
    touched = (seen[1].states[0] == State.NEW) | (seen[1].states[0] == State.REMASKED)
    assert touched.nonzero()[:, 0].tolist() == [3, 6, 8, 11, 13, 16, 18, 21, 23, 26]
    assert not bool((seen[-1].tokens == MASK).any())
    assert bool((seen[-1].tokens[:, :3] == torch.arange(3)).all())


def test_the_unsure_are_drawn_again_and_any_when_asked_so() -> None:
    entropies = {}
    for uncertain in (True, False):
        sampler = build_sampler(f"qbert:diffusion_steps=3,uncertain={uncertain}".lower(), "linear")
        first = frames(canvas(40, 13), sampler, range(40))[1]
        # all ten are there after one step; a fifth of them comes again
        again = first.states == State.REMASKED
        assert again.sum(-1).tolist() == [2] * 40
        with torch.no_grad():
            blank = MODEL(canvas(40, 13), torch.ones(40), select=canvas(40, 13) == MASK).log_probs
        entropy = torch.zeros(first.tokens.shape)
        entropy[canvas(40, 13) == MASK] = -(blank.exp() * blank.clamp(min=-1e4)).sum(-1)
        entropies[uncertain] = float(entropy[again].mean())
        if uncertain:
            lowest = entropy.masked_fill(~again, torch.inf).amin(-1)
            left = entropy.masked_fill(again, -torch.inf)[:, 3:].amax(-1)
            assert bool((lowest >= left - 1e-3).all())
    assert entropies[True] > entropies[False]


def test_a_text_that_does_not_change_has_converged() -> None:
    def steps(text: str, temperature: float) -> int:
        return len(frames(canvas(1, 13), build_sampler(text, "linear"), [0], temperature)) - 1

    assert steps("qbert:diffusion_steps=50", 0.0) < 20
    # nothing has changed enough when all would have to
    assert steps("qbert:diffusion_steps=50,convergence_threshold=1", 2.0) == 2
    assert steps("qbert:diffusion_steps=6,convergence_threshold=0,top_k=11", 5.0) == 6
    assert steps("qbert:diffusion_steps=1", 1.0) == 1
    assert steps("qbert:position_dropout=0", 1.0) == 1


def test_settings_out_of_range_are_refused() -> None:
    for text, word in (
        ("parallel_positions=0", "parallel_positions"),
        ("position_dropout=1.5", "position_dropout"),
        ("diffusion_steps=0", "diffusion_steps"),
        ("convergence_threshold=-1", "convergence_threshold"),
        ("top_k=0", "top_k"),
    ):
        with pytest.raises(ValueError, match=word):
            build_sampler(f"qbert:{text}", "linear")
    with pytest.raises(ValueError, match="num_candidates"):
        Coherent(Toy(), candidates=0)
    with pytest.raises(ValueError, match="context_window"):
        Scales(window=0)
    with pytest.raises(ValueError, match="not all 0"):
        Scales(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="min_threshold"):
        Coherent(Toy(), min_threshold=2.0)
    with pytest.raises(ValueError, match="max_cache_size"):
        SemanticMemory(-1)
    with pytest.raises(ValueError, match="compression_ratio"):
        SemanticMemory(3, 0.0)


def test_width_and_window() -> None:
    narrowing = Narrowing(50, 5)
    assert [narrowing.at(number, 1000) for number in range(7)] == [50, 40, 30, 20, 10, 5, 5]
    assert Narrowing(50, 0).at(3, 1000) == 50
    assert narrowing.at(0, 12) == 12
    scales = Scales(window=5)
    assert [scales.reach(number, 5) for number in range(6)] == [5, 6, 7, 8, 10, 10]
    assert replace(scales, expanding=False).reach(4, 5) == 5


def proposal(
    rows: int = 2, length: int = 9, seed: int = 0, places: Sequence[int] = (3, 5, 6, 8)
) -> tuple[Proposal, Tensor]:
    """All but one of these positions in each row, with some text around."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, MASK, (rows, length), generator=generator)
    open_ = torch.zeros(rows, length, dtype=torch.bool)
    open_[:, list(places)] = True
    tokens[open_] = MASK
    given_ = torch.zeros_like(open_)
    given_[:, :2] = True
    chosen = open_.clone()
    chosen[:, 6] = False
    owner, place = chosen.nonzero().unbind(-1)
    log_probs = torch.randn(len(owner), VOCAB, generator=generator).log_softmax(-1)
    log_probs[:, MASK] = -torch.inf
    log_probs = log_probs.log_softmax(-1)
    u = torch.rand(len(owner), generator=generator, dtype=torch.float64)
    controls = Controls.of(rows)
    return Proposal(1, tokens, ~open_, given_, owner, place, log_probs, u, controls), chosen


def naive_coherence(asked: Proposal, embed: Toy, scales: Scales, token: int, index: int) -> float:
    """A candidate's coherence the long way: text after text, cosine after cosine."""
    row, place = int(asked.owner[index]), int(asked.place[index])
    base = asked.tokens.clone()
    base[asked.owner, asked.place] = asked.log_probs.argmax(-1)
    base[row, place] = token
    known = asked.visible.clone()
    known[asked.owner, asked.place] = True
    theme = embed([tuple(asked.tokens[row][asked.given[row]].tolist())])[0]
    reach = scales.reach(asked.number, 5)
    total = 0.0
    for weight, side, seen in (
        (scales.local, 1, known),
        (scales.phrase, reach, known),
        (scales.whole, 99, known & ~asked.given),
    ):
        text = [
            int(base[row, at])
            for at in range(base.shape[1])
            if (bool(seen[row, at]) or at == place) and abs(at - place) <= side
        ]
        total += weight * float(F.cosine_similarity(embed([tuple(text)])[0], theme, dim=-1))
    return total / (scales.local + scales.phrase + scales.whole)


def test_scores_are_the_weighted_cosines_of_three_scales_in_one_call() -> None:
    asked, _ = proposal()
    embed, scales = Toy(), Scales(window=2)
    picker = Coherent(embed, Narrowing(6, 5), scales)
    base = asked.tokens.clone()
    base[asked.owner, asked.place] = asked.log_probs.argmax(-1)
    known = asked.visible.clone()
    known[asked.owner, asked.place] = True
    candidates, log_probs = shortlist(asked, 6)
    theme = picker.theme(asked)
    embed.calls.clear()
    matrix = picker.matrix(asked, candidates, log_probs.isfinite(), base, known, known & ~asked.given)
    assert embed.calls == [6 * 6 * 3]
    scores = matrix.scores(theme)
    for index in range(len(asked.owner)):
        for rank, token in enumerate(candidates[index].tolist()):
            assert float(scores[index, rank]) == pytest.approx(
                naive_coherence(asked, Toy(), scales, token, index), abs=1e-4
            )
    dense = matrix.dense(2, 9)
    assert dense.shape == (9, 2, 6, 8)
    assert torch.equal(dense[matrix.place, matrix.owner], matrix.embeddings)
    assert float(dense.abs().sum()) == pytest.approx(float(matrix.embeddings.abs().sum()), rel=1e-5)


def accepted_one_by_one(asked: Proposal, chosen: Tensor, base: Tensor, written: Tensor, theme: Tensor) -> Tensor:
    """The seed's acceptance, a call a proposal."""
    embed = Toy()

    def score(tokens: Tensor, row: int) -> float:
        return float(rounded(embed(runs(tokens[None], written[row][None])), theme[row][None])[0])

    result = base[asked.owner, asked.place].clone()
    for row in range(len(base)):
        text = base[row].clone()
        current = start = score(text, row)
        gains = []
        for index in (asked.owner == row).nonzero()[:, 0].tolist():
            single = base[row].clone()
            single[asked.place[index]] = chosen[index]
            if chosen[index] != base[row, asked.place[index]]:
                gains.append((-(score(single, row) - start), index))
        for _, index in sorted(gains):
            trial = text.clone()
            trial[asked.place[index]] = chosen[index]
            if (value := score(trial, row)) >= current:
                text, current = trial, value
                result[index] = chosen[index]
    return result


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_batched_acceptance_is_the_one_by_one_acceptance(seed: int) -> None:
    asked, _ = proposal(3, 12, seed, [3, 5, 6, 8, 9, 10])
    base = asked.tokens.clone()
    base[asked.owner, asked.place] = asked.log_probs.argmax(-1)
    known = asked.visible.clone()
    known[asked.owner, asked.place] = True
    written = known & ~asked.given
    chosen = torch.randint(0, MASK, asked.place.shape, generator=torch.Generator().manual_seed(seed))
    embed = Toy()
    theme = embed(runs(asked.tokens, asked.given))
    embed.calls.clear()
    found = accept(embed, theme, asked, chosen, base, written)
    assert torch.equal(found, accepted_one_by_one(asked, chosen, base, written, theme))
    # the texts alone, then three prefixes of five a call, or as many as stand before a fall
    assert len(embed.calls) <= 1 + 5
    assert max(embed.calls[1:], default=0) <= 3 * 3
    after = base.clone()
    after[asked.owner, asked.place] = found
    before, now = (rounded(embed(runs(text, written)), theme) for text in (base, after))
    assert bool((now >= before).all())


def test_candidates_below_the_threshold_never_come() -> None:
    asked, _ = proposal(1)
    for threshold, weight in ((0.9, 0.0), (1.0, 5.0), (0.0, 0.0)):
        picker = Coherent(Toy(), Narrowing(8, 5), min_threshold=threshold, weight=weight, accepting=False)
        candidates, _ = shortlist(asked, 8)
        seen = set()
        for u in torch.linspace(0.001, 0.999, 60, dtype=torch.float64):
            tokens = picker(replace(asked, u=torch.full_like(asked.u, float(u))))
            seen.add(int(tokens[0]))
        scores = {token: naive_coherence(asked, Toy(), Scales(), token, 0) for token in candidates[0].tolist()}
        best = max(scores.values())
        allowed = {token for token, value in scores.items() if value >= threshold * best - 1e-3 or best <= 0}
        assert seen <= allowed
        if threshold == 1.0 and best > 0:
            assert seen == {max(scores, key=lambda token: scores[token])}
        if threshold == 0.0:
            # without weight the draw is the model's own
            assert len(seen) > 3


def test_the_economical_mode_weighs_a_shortlist() -> None:
    asked, _ = proposal(1)
    embed = Toy()
    Coherent(embed, Narrowing(8, 5), shortlist=2, accepting=False)(asked)
    # the theme, the tokens themselves, and two texts of two candidates at three positions
    assert embed.calls == [1, 18, 12]


def test_coherent_rows_do_not_depend_on_their_neighbours() -> None:
    sampler = replace(build_sampler("qbert", "linear"), picker=Coherent(Toy()))
    together = frames(canvas(3, 20), sampler, [5, 6, 7])[-1]
    for row, seed in enumerate([5, 6, 7]):
        alone = frames(canvas(1, 20), sampler, [seed])[-1]
        assert torch.equal(together.tokens[row], alone.tokens[0])
        assert int(together.nfe[row]) == int(alone.nfe[0])
    assert not bool((together.tokens == MASK).any())


def test_coherence_draws_texts_towards_the_theme() -> None:
    embed = Toy()
    theme = embed([(0, 1, 2)])[0]
    scores = {}
    for name, picker in (("plain", Narrowing(11, 5)), ("coherent", Coherent(embed, Narrowing(11, 5)))):
        sampler = replace(build_sampler("qbert", "linear"), picker=picker)
        last = frames(canvas(16, 20), sampler, range(16))[-1]
        scores[name] = (embed([run(row, [True] * 20, 3, 20) for row in last.tokens.tolist()]) @ theme).mean()
    assert scores["coherent"] > scores["plain"] + 0.1


def test_memory_finds_by_meaning_forgets_the_least_used_and_is_small() -> None:
    memory = SemanticMemory(max_cache_size=2, compression_ratio=0.5, threshold=0.8)
    generator = torch.Generator().manual_seed(0)
    a, b, c, theme = F.normalize(torch.randn(4, 384, generator=generator), dim=-1)
    assert memory.recall(a) is None
    memory.store(a, theme)
    memory.store(b, b)
    near = F.normalize(a + 0.02 * torch.randn(384, generator=generator), dim=-1)
    found = memory.recall(near)
    assert found is not None
    # half the numbers keep what a projection to half the space keeps
    assert float(found @ theme) > 0.6
    assert memory.recall(c) is None
    memory.store(c, c)  # a was used last: b is forgotten
    assert (memory.recall(a) is None, memory.recall(b) is None, memory.recall(c) is None) == (False, True, False)
    assert memory.keys[0].shape == (192,)
    memory.store(near, c)  # means the same as a: replaces it
    assert len(memory) == 2
    again = SemanticMemory(2, 0.5, 0.8)
    again.load(memory.tensors())
    assert torch.equal(again.recall(a), memory.recall(a))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same encoder"):
        again.recall(torch.ones(8))
    with pytest.raises(ValueError, match="same compression_ratio"):
        SemanticMemory(2, 0.25).load(memory.tensors())
    nothing = SemanticMemory(0)
    nothing.store(a, a)
    assert len(nothing) == 0


def test_a_matrix_rounds_what_a_batch_may_change() -> None:
    matrix = Matrix(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1]]), torch.tensor([[[0.5, 0.5]]]))
    theme = torch.tensor([[1.0, 0.0]])
    jitter = torch.tensor([[1.0 + 1e-6, 0.0]])
    assert torch.equal(matrix.scores(theme), matrix.scores(jitter))


def test_refinement_counts_to_the_nearest() -> None:
    assert Refine(0.2).count(torch.tensor([0, 2, 3, 10, 13])).tolist() == [0, 0, 1, 2, 3]
