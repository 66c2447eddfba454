"""Typed configuration, and the one place where the parts are joined."""

from unmask.config.build import (
    CachedReader,
    build_corpus,
    build_corruption,
    build_data,
    build_denoiser,
    build_model,
    build_objective,
    build_sampler,
    build_times,
    build_tokenizer,
)
from unmask.config.parsing import check_keys, config_keys, config_parser, explain, read_config
from unmask.config.settings import DataConfig, DiffusionConfig, OptimConfig, RunConfig, TrainConfig

__all__ = [
    "CachedReader",
    "DataConfig",
    "DiffusionConfig",
    "OptimConfig",
    "RunConfig",
    "TrainConfig",
    "build_corpus",
    "build_corruption",
    "build_data",
    "build_denoiser",
    "build_model",
    "build_objective",
    "build_sampler",
    "build_times",
    "build_tokenizer",
    "check_keys",
    "config_keys",
    "config_parser",
    "explain",
    "read_config",
]
