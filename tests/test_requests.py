"""Batches of mixed requests, edits, scores, stops, forced and banned texts, best of several."""

from itertools import permutations
from pathlib import Path

import pytest
import torch

from unmask.pipeline import Pipeline, Request
from unmask.pipeline.layouts import hole_sizes
from unmask.pipeline.scoring import fill_bound, token_nll
from unmask.text.template import parse_template


@pytest.fixture(scope="module")
def pipe(trained: Path) -> Pipeline:
    return Pipeline.from_pretrained(trained, "cpu")


def mixed(pipe: Pipeline) -> list[Request]:
    return [
        pipe.request_generate("To be", length=12, seed=5),
        pipe.request_infill("T[MASK] be, [MASK:3]", temperature=0.0, num_samples=2),
        pipe.request_generate(length=16, sampler="threshold:tau=0.5", seed=9),
        pipe.request_infill("or [MASK:4]", seed=3, top_k=3, guidance=1.0),
        pipe.request_infill("not [MASK:2-6]", seed=1, steps=2),
        pipe.request_generate(length=9, sampler="threshold:tau=0.5", best_of=4, repetition_penalty=1.5),
        pipe.request_edit("To be, or not", "or", banned=["b"], seed=8)[0],
        pipe.request_generate("th", length=16, stop=["t"], block=4, revise="verify"),
    ]


def test_a_mixed_batch_gives_each_request_what_it_gets_alone(pipe: Pipeline) -> None:
    together = pipe.batch(mixed(pipe))
    for request, found in zip(mixed(pipe), together, strict=True):
        (alone,) = pipe.batch([request])
        assert [item.tokens for item in alone] == [item.tokens for item in found]
        assert [(item.nfe, item.seed, item.finish) for item in alone] == [
            (item.nfe, item.seed, item.finish) for item in found
        ]


def test_edit_rewrites_the_span_and_nothing_else(pipe: Pipeline) -> None:
    (result,) = pipe.edit("To be, or not", "be", seed=2)
    assert result.text.startswith("To ")
    assert result.text.endswith(", or not")
    assert result.fills == [result.text[3:5]]
    assert result.confidence[:3] == [1.0] * 3
    (longer,) = pipe.edit("To be, or not", (3, 5), size=5)
    assert len(longer.text) == 16
    several = pipe.edit("To be, or not", ["To", (10, 13)])[0]
    assert len(several.fills) == 2
    assert several.text[2:10] == " be, or "


def test_edit_finds_the_least_likely_tokens_and_keeps_the_instruction(pipe: Pipeline) -> None:
    wrong = "To be, or qot t"
    tokens = torch.tensor([pipe.tokenizer.encode(wrong)])
    every = torch.ones_like(tokens, dtype=torch.bool)
    nll = token_nll(pipe.denoiser, _schedule(pipe), tokens, every)[0]
    with torch.no_grad():
        hidden = torch.arange(15)[None] % 8 == 2
        seen = pipe.denoiser(tokens.masked_fill(hidden, pipe.tokenizer.mask_id), torch.ones(1), select=hidden)
    torch.testing.assert_close(nll[[2, 10]], -seen.log_probs[[0, 1], tokens[0, [2, 10]]].double())
    worst = set(nll.argsort(descending=True)[:3].tolist())
    (mended,) = pipe.edit(wrong, share=0.2, temperature=0.0)
    assert {place for place in range(15) if mended.confidence[place] != 1.0} == worst
    assert mended.nfe == 8 + 3
    (kept,) = pipe.edit(wrong, share=0.2, keep=["qot", (0, 4)], temperature=0.0)
    assert kept.text[10:13] == "qot"
    assert kept.confidence[:4] == [1.0] * 4


def _schedule(pipe: Pipeline) -> object:
    from unmask.diffusion.schedules import SCHEDULES

    return SCHEDULES[pipe.config.diffusion.schedule]()


def test_the_bound_is_the_chain_rule_averaged_over_all_orders(pipe: Pipeline) -> None:
    """Four holes, 24 orders, by enumeration; against 4,000 draws."""
    ids = pipe.tokenizer.encode("To be, or not")
    places = [3, 4, 8, 11]
    tokens = torch.tensor([ids])
    total = 0.0
    for order in permutations(places):
        hidden = set(places)
        for place in order:
            select = torch.zeros_like(tokens, dtype=torch.bool)
            select[0, place] = True
            canvas = tokens.clone()
            canvas[0, sorted(hidden)] = pipe.tokenizer.mask_id
            with torch.no_grad():
                total -= float(pipe.denoiser(canvas, torch.ones(1), select=select).log_probs[0, ids[place]]) / 24
            hidden.remove(place)
    holes = torch.zeros_like(tokens, dtype=torch.bool)
    holes[0, places] = True
    one = torch.tensor([len(ids)])
    draws, mean = fill_bound(pipe.denoiser, _schedule(pipe), tokens, holes, one, torch.tensor([7]), 4000)
    error = float(draws.std()) / 4000**0.5
    assert abs(float(draws.mean()) - total) < 4 * error
    assert (mean[0][~holes[0]] == 0).all()
    assert (mean[0][places] > 0).all()


def test_score_prefers_what_the_corpus_says(pipe: Pipeline) -> None:
    right, wrong = (pipe.score("To [MASK:2], or not", fill) for fill in ("be", "tt"))
    assert right.nats < wrong.nats
    assert right.text == "To be, or not"
    assert right.nfe == 16
    assert [right.confidence[i] for i in (0, 1, 2, 5)] == [1.0] * 4
    assert 0 < right.confidence[3] < 1
    assert right.per_token == pytest.approx(right.nats / 2)
    assert pipe.score("To [MASK], or", "be", seed=3) == pipe.score("To [MASK], or", "be", seed=3)
    whole = pipe.score("To be, or not", draws=1)
    assert whole.ci95 is None
    assert pipe.score("To be, or not").nats < pipe.score("oT eb ,ro ton").nats


def test_best_of_returns_the_best_by_the_models_bound(pipe: Pipeline) -> None:
    every = pipe.generate(length=12, num_samples=6, seed=20, temperature=1.5)
    best = pipe.generate(length=12, num_samples=2, best_of=6, seed=20, temperature=1.5)
    bounds = {item.seed: pipe.score(item.text, draws=16, seed=item.seed).per_token for item in every}
    assert [item.seed for item in best] == sorted(bounds, key=lambda seed: bounds[seed])[:2]
    for item in best:
        assert item.bound == pytest.approx(bounds[item.seed], rel=1e-4)
        assert item.tokens == next(other.tokens for other in every if other.seed == item.seed)
    assert sum(item.nfe for item in best) == sum(item.nfe for item in every) + 6 * 16


def test_a_hole_of_open_length_gets_the_length_with_the_best_bound(pipe: Pipeline) -> None:
    (result,) = pipe.infill("To [MASK:1-4], or not", temperature=0.0)
    sized = [pipe.infill(f"To [MASK:{n}], or not", temperature=0.0)[0] for n in range(1, 5)]
    scores = [pipe.score("To [MASK], or not", item.fills, seed=0).per_token for item in sized]
    assert result.fills == sized[scores.index(min(scores))].fills
    assert hole_sizes(parse_template("[MASK:2-4] [MASK:3] [MASK:1-99]"))[0] == (2, 3, 1)
    assert hole_sizes(parse_template("[MASK:2-4] [MASK:3] [MASK:1-99]"))[-1] == (4, 3, 99)
    assert len(hole_sizes(parse_template("[MASK:1-99]"))) == 8


@pytest.mark.parametrize("block", [None, 2])
def test_stop_texts_end_the_text_and_are_not_part_of_it(pipe: Pipeline, block: int | None) -> None:
    full = pipe.generate("To be", length=16, block=block, seed=4)[0]
    stop = full.text[9:11]
    cut = pipe.generate("To be", length=16, block=block, seed=4, stop=[stop, "\x00"])[0]
    assert cut.finish == "stop"
    assert full.finish == "length"
    assert full.text.startswith(cut.text)
    assert stop not in cut.text[5:]
    assert cut.text + stop == full.text[: len(cut.text) + 2]
    if block:
        assert cut.nfe < full.nfe
    # text is given after the hole: nothing to end
    assert pipe.generate("To be", suffix="t", length=16, seed=4, stop=[stop])[0].finish == "length"


@pytest.mark.parametrize(
    "revise", ["remdm_rescale:eta=0.5", "remdm_cap:eta=1", "dfm", "verify", "gibbs", "self_correct"]
)
@pytest.mark.parametrize("neighbour", [4, 16])
def test_a_text_that_ended_is_not_opened_again_while_others_go_on(pipe: Pipeline, revise: str, neighbour: int) -> None:
    options = {"sampler": "left_to_right", "revise": revise, "temperature": 1.5}
    requests = [pipe.request_generate(length=10, seed=seed, stop=["e", "o"], **options) for seed in range(8)]
    together = pipe.batch([*requests, pipe.request_generate(length=neighbour, seed=99, **options)])
    assert sum(found[0].finish == "stop" for found in together[:8]) >= 4
    for request, found in zip(requests, together, strict=False):
        assert pipe.tokenizer.mask_id not in found[0].tokens
        alone = pipe.batch([request])[0][0]
        assert (found[0].tokens, found[0].nfe, found[0].text) == (alone.tokens, alone.nfe, alone.text)


@pytest.mark.parametrize("revise", ["remdm_cap:eta=0.3", "dfm", "gibbs"])
def test_no_stop_text_is_left_whatever_is_reopened(pipe: Pipeline, revise: str) -> None:
    results = pipe.generate(
        length=8, sampler="threshold:tau=0.1", steps=24, stop="e", revise=revise, temperature=1.5, num_samples=30
    )
    assert not any("e" in item.text for item in results)


def test_a_stop_of_several_bytes_is_found_whole() -> None:
    from unmask.pipeline.stopping import Ending, Stopper
    from unmask.text.tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer()
    for text, stop in (("ab\U0001f600cd", "\U0001f600"), ("ab \u00e9 cd", "\u00e9")):
        ids = tokenizer.encode(text)
        tokens = torch.tensor([ids])
        stopper = Stopper(tokenizer, [Ending(0, (stop,))])
        (size,) = stopper(tokens, torch.zeros_like(tokens, dtype=torch.bool), torch.tensor([len(ids)])).tolist()
        assert tokenizer.decode(ids[:size]) == text[: text.index(stop) + 1]


@pytest.mark.parametrize("rule", ["threshold:tau=0.05", "klass:tau=0.1,drift=2,window=1", "confidence", "ancestral"])
@pytest.mark.parametrize("revise", ["remdm_cap:eta=0", "remdm_cap:eta=0.3", "remdm_conf"])
@pytest.mark.parametrize("block", [None, 3])
def test_reopened_rows_and_new_blocks_are_asked_for_again(
    pipe: Pipeline, rule: str, revise: str, block: int | None
) -> None:
    """Nothing is taken from a neighbour's predictions, or from before."""
    options = {"sampler": rule, "block": block, "temperature": 1.5}
    lengths = [16, 5, 9, 12]
    requests = [
        pipe.request_generate("To" * (i % 2), length=n, seed=i, revise=revise, **options) for i, n in enumerate(lengths)
    ]
    for request, found in zip(requests, pipe.batch(requests), strict=True):
        alone = pipe.batch([request])[0][0]
        assert (alone.tokens, alone.nfe) == (found[0].tokens, found[0].nfe)
    if revise == "remdm_cap:eta=0" and rule.startswith("threshold"):
        plain = pipe.generate(length=16, seed=0, **options)[0]
        same = pipe.generate(length=16, seed=0, revise=revise, **options)[0]
        assert plain.nfe == same.nfe


def test_the_empty_continuation_is_not_the_best() -> None:
    pipe, end = ending_model()

    def ends_at_once(log_probs: torch.Tensor, tokens: torch.Tensor, row: torch.Tensor, place: torch.Tensor) -> object:
        log_probs[place == 1, end] += 6.0
        return log_probs

    options = {"length": 8, "sampler": "left_to_right", "hooks": [ends_at_once]}
    every = pipe.generate("t", num_samples=8, **options)
    assert any(len(item.tokens) == 1 for item in every)
    assert any(len(item.tokens) == 8 for item in every)
    assert all(len(item.tokens) == 8 for item in pipe.generate("t", best_of=8, num_samples=1, **options))


def test_hooks_may_write_into_what_they_are_given(pipe: Pipeline) -> None:
    seen: list[torch.Tensor] = []

    def push(log_probs: torch.Tensor, tokens: torch.Tensor, row: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        seen.append(log_probs.clone())
        log_probs[:, 2] += 3
        return log_probs

    (result,) = pipe.generate(length=4, steps=30, hooks=[push])
    assert all(0 < value <= 1 for value in result.confidence)
    assert all((given <= 1e-6).all() for given in seen)
    with pytest.raises(ValueError, match="left no token to choose from at step 1"):
        pipe.generate(length=4, hooks=[lambda log_probs, *_: torch.full_like(log_probs, -torch.inf)])


def test_forced_texts_leave_room_for_one_another(pipe: Pipeline) -> None:
    for seed in range(12):
        (result,) = pipe.infill("To [MASK:4]t", forced=["be", "or"], seed=seed)
        assert sorted([result.text[3:5], result.text[5:7]]) == ["be", "or"]
    (result,) = pipe.infill("To [MASK:2-5]t", forced=["not"])
    assert "not" in result.fills[0]


def test_jobs_can_be_watched_twice_and_samples_keep_their_order(pipe: Pipeline) -> None:
    job = pipe.stream("To be", length=16, stop=["t"], seed=1)
    first = [list(job), job.results][1]
    assert [list(job), job.results][1] == first
    results = pipe.infill("To [MASK:1-3], or", num_samples=4, seed=7)
    assert [item.seed for item in results] == [7, 8, 9, 10]
    edited = pipe.edit("To be, or not", share=0.3, num_samples=3)
    assert edited[0].nfe == edited[1].nfe + 8


def test_many_samples_are_split_into_batches(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pipe.generate("To", length=8, num_samples=7, seed=3)
    monkeypatch.setattr("unmask.pipeline.pipeline.LARGEST_BATCH", 2 * 8 * pipe.tokenizer.vocab_size)
    split = pipe.generate("To", length=8, num_samples=7, seed=3)
    assert [(item.tokens, item.seed, item.nfe) for item in split] == [
        (item.tokens, item.seed, item.nfe) for item in whole
    ]


def test_one_text_is_a_list_of_one(pipe: Pipeline) -> None:
    assert "not" in pipe.generate(length=12, forced="not")[0].text
    assert pipe.generate(length=8, banned="e")[0].tokens == pipe.generate(length=8, banned=["e"])[0].tokens


def test_tokens_that_no_draw_has_hidden_have_no_confidence(pipe: Pipeline) -> None:
    assert any(None in pipe.score("To be, or not", draws=1, seed=seed).confidence for seed in range(5))
    assert None not in pipe.score("To be, or not", draws=32).confidence


BAD_TYPES = [
    *({name: None} for name in ("sampler", "temperature", "top_k", "seed", "num_samples")),
    *({name: "4"} for name in ("steps", "block", "temperature", "top_k", "seed", "best_of", "logit_bias")),
    *({name: 2.5} for name in ("steps", "block", "top_k", "seed", "num_samples", "best_of", "stop", "forced")),
    *({name: [5]} for name in ("stop", "forced", "temperature")),
    {"stop": b"a"},
    {"schedule": 5},
    {"temperature": 1e39},
    {"temperature": float("nan")},
    {"steps": 10**18},
    {"seed": 2**63},
    {"banned": [1.5]},
    {"logit_bias": {3: "x"}},
    {"logit_bias": {3: 1e40}},
    {"forced": ["be"], "stop": "e"},
    {"length": "6"},
]


@pytest.mark.parametrize("options", BAD_TYPES, ids=str)
def test_wrong_types_are_one_sentence(pipe: Pipeline, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options)) + "|there is no schedule"):
        pipe.generate(**options)


def ending_model() -> tuple[Pipeline, int]:
    from conftest import random_model
    from unmask.backbones.transformer import TransformerConfig
    from unmask.config import RunConfig
    from unmask.text.tokenizer import bpe_tokenizer

    tokenizer = bpe_tokenizer(["to be or not to be " * 20], 270)
    shape = {"layers": 1, "width": 32, "heads": 2, "length": 16}
    model = random_model(tokenizer.vocab_size, **shape)
    assert tokenizer.end_id is not None
    return Pipeline(model, tokenizer, RunConfig(model=TransformerConfig(**shape)), "cpu"), tokenizer.end_id


def test_the_end_of_text_token_ends_the_text() -> None:
    pipe, end = ending_model()
    tokenizer = pipe.tokenizer
    options = {"length": 16, "sampler": "left_to_right", "logit_bias": {end: 6.0}}
    ended = [item for seed in range(4) for item in pipe.generate("to", seed=seed, **options) if item.finish == "end"]
    assert ended
    for item in ended:
        assert tokenizer.end_id not in item.tokens
        assert len(item.tokens) < 16
        assert item.nfe <= len(item.tokens) + 1
        on = pipe.generate("to", seed=item.seed, ignore_end=True, **options)[0]
        assert on.tokens[: len(item.tokens)] == item.tokens
        assert len(on.tokens) == 16


def test_forced_texts_come_where_they_are_likeliest(pipe: Pipeline) -> None:
    for seed in range(5):
        (result,) = pipe.generate("To", length=16, forced=["not", "be"], seed=seed)
        assert "not" in result.text[2:]
        assert "be" in result.text[2:]
        assert result.nfe >= 3
    hits = [pipe.infill("To [MASK:9]t", forced=["be"], seed=seed)[0].text[3:5] == "be" for seed in range(10)]
    assert sum(hits) >= 7


def test_banned_tokens_never_come(pipe: Pipeline) -> None:
    results = pipe.generate(length=16, num_samples=8, banned=["e", "t"], temperature=1.0)
    assert not any(set(item.text) & {"e", "t"} for item in results)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        ("generate", {"forced": ["not"], "banned": ["n"]}, "'not' is forced, but its token .* is banned"),
        ("generate", {"banned": ["not"]}, "'not' is 3 tokens"),
        ("generate", {"banned": [999]}, "token 999 does not exist"),
        ("generate", {"forced": [""]}, "a forced text must not be empty"),
        ("generate", {"forced": ["To be, or not to be"]}, "no room for forced texts of 19 tokens"),
        ("generate", {"stop": ""}, "stop text must not be empty"),
        ("generate", {"best_of": 1, "num_samples": 2}, "best_of must be at least num_samples"),
        ("generate", {"sampler": "entropy_bound:gamma=-1"}, "gamma must be 0 or more"),
        ("generate", {"sampler": "threshold:tau=1.5"}, "tau must be in"),
        ("generate", {"sampler": "threshold:tua=0.5"}, "no setting of threshold 'tua' .did you mean tau"),
        ("generate", {"sampler": "threshold:tau"}, "must be key=value, as in threshold:tau=0.9"),
        ("generate", {"sampler": "threshold:tau=high"}, "tau of threshold must be of type float"),
        ("generate", {"sampler": "random:tau=1"}, "takes no settings"),
        ("generate", {"sampler": "treshold"}, "did you mean threshold"),
        ("generate", {"revise": "remdm_cup"}, "did you mean remdm_cap"),
        ("generate", {"revise": "remdm_cap:eta=2"}, "eta must be in"),
        ("generate", {"revise": "remdm_cap+dfm"}, "only one of the remdm"),
        ("generate", {"revise": "gibbs+verify"}, "only one of the gibbs"),
        ("generate", {"block": 0}, "block must be at least 1"),
        ("generate", {"tempature": 1.0}, "did you mean temperature"),
        ("edit", {}, "either a span or a share"),
        ("edit", {"span": "be", "share": 0.5}, "either a span or a share"),
        ("edit", {"span": "nowhere"}, "does not occur"),
        ("edit", {"span": "o"}, "occurs more than once"),
        ("edit", {"span": (3, 99)}, "is not a range"),
        ("edit", {"share": 1.5}, "share must be in"),
        ("edit", {"span": "be", "keep": "To be"}, "nothing to rewrite"),
        ("edit", {"share": 0.5, "size": 3}, "goes with a span"),
        ("edit", {"span": "be", "size": 30}, "the model's canvas has 16"),
        ("score", {"fill": "be"}, "no hole, but 1 fills"),
        ("score", {"draws": 0}, "draws must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_said(pipe: Pipeline, call: str, options: dict[str, object], message: str) -> None:
    text = [] if call == "generate" else ["To be, or not"]
    with pytest.raises(ValueError, match=message):
        getattr(pipe, call)(*text, **options)


def test_a_block_that_does_not_divide_is_short_at_the_end(pipe: Pipeline) -> None:
    job = pipe.stream("To", length=16, block=5, steps=14)
    opened = [set((frame.states[0] == 2).nonzero()[:, 0].tolist()) for frame in job][1:]
    order = [place for places in opened for place in sorted(places)]
    assert sorted(order[:5]) == [2, 3, 4, 5, 6]
    assert sorted(order[5:10]) == [7, 8, 9, 10, 11]
    assert sorted(order[10:]) == [12, 13, 14, 15]
    assert job.results[0][0].text.startswith("To")
