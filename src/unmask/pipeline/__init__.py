"""Text to text: generate, infill, edit, score, stream."""

from unmask.pipeline.device import choose_device, default_device
from unmask.pipeline.options import DEFAULT_STEPS, SamplingOptions
from unmask.pipeline.pipeline import Pipeline
from unmask.pipeline.results import Generation, Repair, Request, Score

__all__ = [
    "DEFAULT_STEPS",
    "Generation",
    "Pipeline",
    "Repair",
    "Request",
    "SamplingOptions",
    "Score",
    "choose_device",
    "default_device",
]
