"""The trainer: one loop on accelerate, whose every batch and noise is a function of (seed, step, rank)."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from unmask.backbones.masked import MaskedLM
from unmask.backbones.precision import resolve_precision
from unmask.backbones.thinking import ThoughtTransformer
from unmask.backbones.transformer import Transformer, show_only
from unmask.config import RunConfig, build_bound, build_data
from unmask.evaluation.likelihood import Likelihood, evaluate_likelihood
from unmask.evaluation.remembering import remember_segments
from unmask.pretrained import (
    load_weights,
    named_weights,
    read_model_config,
    read_tensors,
    weights_file,
)
from unmask.text.batches import eval_blocks
from unmask.text.segments import document_windows
from unmask.text.shards import Progress
from unmask.training.callbacks import Callback, MetricsFile
from unmask.training.checkpoint import (
    Average,
    TrainerState,
    load_optimizers,
    load_trainer,
    save_checkpoint,
)
from unmask.training.learning import Learner, Place, TextLearner
from unmask.training.opening import opening
from unmask.training.optim import build_optimizers, set_lr
from unmask.training.runs import default_run
from unmask.training.segments import SegmentLearner
from unmask.training.signals import on_stop_signal
from unmask.training.start import find_start
from unmask.training.window import NOT_A_NUMBER, Window


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        run: the run folder.
        step: optimizer steps done.
        complete: false when it was interrupted; `resume="auto"` goes on.
        likelihood: the last validation, None if there was none.
    """

    run: Path
    step: int
    complete: bool
    likelihood: Likelihood | None


class Trainer:
    """One run.

    Args:
        config: what to train.
        out: the run folder; made if missing.
        resume: None to start, "auto" to go on from the last checkpoint if there is one, or a checkpoint folder.
        callbacks: who is told; metrics.jsonl is always written.
        progress: called with the characters tokenized while the corpus is prepared.

    Raises:
        ValueError: `out` holds a run and `resume` is None; the data do not fit; the checkpoint does not fit.
    """

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        *,
        resume: str | None = None,
        callbacks: Sequence[Callback] = (),
        progress: Progress = lambda characters: None,
    ) -> None:
        self.out = out
        start = find_start(config, out, resume)
        self.config = config = start.config
        train = config.train
        self.precision = resolve_precision(train.precision)
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),  # never mps, which has no float64
            mixed_precision="no",  # autocast is ours: accelerate fixes its own once a process
            gradient_accumulation_steps=train.accumulate,
            log_with=list[Any](train.trackers) or None,
            project_dir=out,
        )
        self.device = self.accelerator.device
        with self.accelerator.main_process_first():
            out.mkdir(parents=True, exist_ok=True)
            reuse = start.checkpoint is not None or not self.accelerator.is_main_process
            self.data = build_data(config.data, out / "data", progress, tokenizer=start.tokenizer, reuse=reuse)
        assert self.data.tokenizer is not None
        self.tokenizer = self.data.tokenizer
        self.callbacks: list[Callback] = []
        if self.accelerator.is_main_process:
            self.callbacks = [MetricsFile(out / "metrics.jsonl"), *callbacks]
        if train.trackers:
            self.accelerator.init_trackers("unmask")

        self.model = model = start.build(self.tokenizer, self.device)
        self.optimizers = build_optimizers(model, config.optim, self.device)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        place = Place(self.device, rank, world, self._autocast, self._gather)
        self.learner: Learner
        if isinstance(model, ThoughtTransformer):
            self.learner = SegmentLearner(config, model, self.data.train, self.tokenizer, place)
            segments = config.thinking.segments
            rows = -(-train.eval_blocks // segments)
            self.val_rows = document_windows(self.data.val, config.canvas, segments, rows).to(self.device)
        else:
            self.learner = TextLearner(config, model, self.data.train, self.tokenizer, place)
            self.val_rows = eval_blocks(self.data.val, config.canvas, train.eval_blocks).to(self.device)
        self.state = TrainerState()
        self.average: Average | None = None
        if start.checkpoint is not None:
            self._resume(start.checkpoint)
        elif train.ema:
            self.average = Average(named_weights(model), train.ema)
        if self.accelerator.is_main_process:
            (out / "config.yaml").write_text(yaml.safe_dump(plain(config.to_dict()), sort_keys=False), "utf-8")
        network: Any = self.learner.network()
        wrapped: Any = torch.compile(network, dynamic=True) if train.compile else network
        self.wrapped, *self.prepared = self.accelerator.prepare(wrapped, *self.optimizers)
        self.learner.connect(self.wrapped)
        self.bound = build_bound(config, model, self.tokenizer)
        self.stop = False

    def fit(self) -> TrainResult:
        """Train to the end, or until Ctrl-C, which saves and returns.

        Raises:
            FloatingPointError: the loss is not a number; the last good checkpoint stays.
        """
        train, likelihood = self.config.train, None
        self._tell("started", self.state.step, train.steps, self._facts())
        began = time.monotonic() - self.state.seconds
        window = Window(self.device)
        saved = self.state.step
        try:
            with on_stop_signal(self._ask_to_stop):
                while self.state.step < train.steps and not self.stop:
                    window.add(self._step())
                    self._agree_to_stop()
                    self.state.step += 1
                    step, last = self.state.step, self.state.step == train.steps
                    if step % train.log_every == 0 or last:
                        self._log(window)
                    if step % train.eval_every == 0 or last:
                        likelihood = self._evaluate()
                        window.restart()
                    if step % train.save_every == 0 or last or self.state.best_step == step:
                        self.state.seconds = time.monotonic() - began
                        self._save()
                        window.restart()
                        saved = step
                if self.stop and saved != self.state.step:
                    window.check()
                    self._save()
        finally:
            self._tell("finished", self.state.step)
            self.accelerator.end_training()
        return TrainResult(self.out, self.state.step, self.state.step >= train.steps, likelihood)

    def _step(self) -> dict[str, Tensor]:
        train, step = self.config.train, self.state.step
        set_lr(self.optimizers, self.config.optim.lr_scale(step, train.steps))
        self.wrapped.train()
        sums: dict[str, Tensor] = {}
        for micro in range(train.accumulate):
            index = step * train.accumulate + micro
            generator = self._generator(index)
            self._open_attention(generator)
            with self.accelerator.accumulate(self.wrapped):
                lesson = self.learner.lesson(index, generator, step)
                loss = lesson.loss
                self.accelerator.backward(loss.value)
                if self.accelerator.sync_gradients and self.config.optim.clip:
                    norm = self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.config.optim.clip)
                    sums["grad_norm"] = torch.as_tensor(norm) * train.accumulate
                for optimizer in self.prepared:
                    optimizer.step()
                    optimizer.zero_grad()
            if isinstance(self.model, Transformer):
                show_only(self.model, None)
            self.learner.after(step, lesson)
            for name, value in {"loss": loss.value.detach(), **loss.metrics}.items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value
        if self.average is not None:
            self.average.update(named_weights(self.model), step)
        return {name: value / train.accumulate for name, value in sums.items()}

    def _open_attention(self, generator: torch.Generator) -> None:
        """Between a causal model and a bidirectional one: as much of what comes later is visible as steps are done."""
        steps = self.config.adapt.anneal
        if self.state.step < steps and isinstance(self.model, Transformer):
            share = self.state.step / steps
            show_only(self.model, opening(self.config.model.length, share, generator, self.device))

    def _log(self, window: Window) -> None:
        tokens = self.learner.tokens * self.config.train.accumulate * self.accelerator.num_processes
        metrics = window.means(tokens) | self.learner.watch()
        metrics["lr_scale"] = self.config.optim.lr_scale(self.state.step - 1, self.config.train.steps)
        if self.data.train.bytes_per_token:
            metrics["bits_per_byte"] = metrics["nelbo"] / math.log(2) / self.data.train.bytes_per_token
        self._tell("logged", self.state.step, metrics)
        self.accelerator.log({f"train/{name}": value for name, value in metrics.items()}, step=self.state.step)

    def _evaluate(self) -> Likelihood:
        self.model.eval()
        with self._averaged(), self._autocast():
            rows, memory = self.val_rows, None
            if isinstance(self.model, ThoughtTransformer):
                memory = remember_segments(self.model, rows, self.config.train.batch_size)
                rows = rows.flatten(0, 1)
            likelihood = evaluate_likelihood(
                self.bound.denoiser,
                rows,
                self.bound.corruption,
                self.bound.objective,
                exact_k=self.bound.exact_k,
                bytes_per_token=self.data.val.bytes_per_token,
                draws=2,
                batch_size=self.config.train.batch_size,
                memory=memory,
            )
        self._tell("evaluated", self.state.step, likelihood)
        self.accelerator.log({"val/nelbo": likelihood.nelbo.mean}, step=self.state.step)
        # one process's number decides for all
        mean = float(broadcast(torch.tensor([likelihood.nelbo.mean], device=self.device))[0])
        if mean < self.state.best_nelbo:
            self.state.best_nelbo, self.state.best_step = mean, self.state.step
        return likelihood

    def _gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes."""
        return torch.as_tensor(self.accelerator.gather(rows))

    def _agree_to_stop(self) -> None:
        """A signal may reach one process alone, or between steps: all stop together or none does."""
        if self.accelerator.num_processes > 1:
            stop = torch.tensor([float(self.stop)], device=self.device)
            self.stop = bool(self._gather(stop).max() > 0)

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if not all(bool(weight.isfinite().all()) for weight in named_weights(self.model).values()):
            raise FloatingPointError(NOT_A_NUMBER.format("a weight"))
        learned = self.learner.state_dict()
        if self.accelerator.is_main_process:
            folder = save_checkpoint(
                self.out,
                self.state,
                config=self.config,
                tokenizer=self.tokenizer,
                weights=named_weights(self.model),
                averaged=self.average.weights if self.average else None,
                optimizers=self.optimizers,
                learned=learned,
                architecture=self.model.architecture() if isinstance(self.model, MaskedLM) else None,
            )
            self._tell("saved", self.state.step, folder)
        self.accelerator.wait_for_everyone()

    def _resume(self, source: Path) -> None:
        _, _, fingerprint = read_model_config(source)
        if fingerprint != self.tokenizer.fingerprint():
            raise ValueError(f"{source} cannot be resumed: the data have another tokenizer than the checkpoint")
        self.state, weights, optimizers, learned = load_trainer(source)
        if self.config.train.ema:
            load_weights(self.model, read_tensors(weights_file(source)), source)
            self.average = Average(named_weights(self.model), self.config.train.ema)
        load_weights(self.model, weights, source)
        load_optimizers(self.optimizers, optimizers)
        self.learner.load_state_dict(learned)

    def _generator(self, index: int) -> torch.Generator:
        key = np.random.SeedSequence((self.config.train.seed, index, self.accelerator.process_index))
        seed = int(key.generate_state(1, np.uint64)[0] >> np.uint64(1))
        torch.manual_seed(seed)  # dropout's only source
        return torch.Generator(self.device).manual_seed(seed)

    def _facts(self) -> dict[str, Any]:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return {
            "parameters": f"{parameters:,}",
            "vocabulary": f"{self.tokenizer.vocab_size:,}",
            "train tokens": f"{len(self.data.train):,}",
            "device": str(self.device),
            "precision": self.precision,
            "run": str(self.out),
        }

    def _tell(self, event: str, *values: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*values)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights inside, the raw ones again outside."""
        if self.average is None:
            yield
            return
        raw = {name: tensor.clone() for name, tensor in named_weights(self.model).items()}
        self.model.load_state_dict(self.average.weights, strict=False)
        try:
            yield
        finally:
            self.model.load_state_dict(raw, strict=False)

    def _ask_to_stop(self) -> bool:
        """End after the step at hand; whether that was asked before."""
        before, self.stop = self.stop, True
        return before


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def train(
    config: RunConfig,
    out: str | Path | None = None,
    *,
    resume: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train a run (see `Trainer`); without `out`, in runs/run or the first of runs/run-2, ... that is free."""
    folder = default_run("run", resume=resume == "auto") if out is None else Path(out)
    return Trainer(config, folder, resume=resume, callbacks=callbacks).fit()
