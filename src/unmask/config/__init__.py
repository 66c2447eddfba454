"""Typed configuration, and the one place where the parts are joined."""

from unmask.config.build import (
    Bound,
    CachedReader,
    begin_token,
    build_bound,
    build_corpus,
    build_corruption,
    build_data,
    build_denoiser,
    build_model,
    build_objective,
    build_sampler,
    build_times,
    build_tokenizer,
    build_training_denoiser,
)
from unmask.config.parsing import check_keys, config_keys, config_parser, explain, read_config
from unmask.config.settings import AdaptConfig, DataConfig, DiffusionConfig, OptimConfig, RunConfig, TrainConfig

__all__ = [
    "AdaptConfig",
    "Bound",
    "CachedReader",
    "DataConfig",
    "DiffusionConfig",
    "OptimConfig",
    "RunConfig",
    "TrainConfig",
    "begin_token",
    "build_bound",
    "build_corpus",
    "build_corruption",
    "build_data",
    "build_denoiser",
    "build_model",
    "build_objective",
    "build_sampler",
    "build_times",
    "build_tokenizer",
    "build_training_denoiser",
    "check_keys",
    "config_keys",
    "config_parser",
    "explain",
    "read_config",
]
