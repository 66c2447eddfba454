"""A stack of thoughts in a file, for next week."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from unmask.thought.stack import ThoughtStack

FORMAT = "unmask thoughts 1"


@dataclass(frozen=True)
class Session:
    """What a session file holds.

    Attributes:
        stack: the thoughts.
        model: the fingerprint of the model that had them.
        notes: plain values beside them, such as the text so far.
    """

    stack: ThoughtStack
    model: str
    notes: dict[str, Any] = field(default_factory=dict[str, Any])


def save_session(session: Session, file: Path) -> None:
    """Write a session, whole or not at all.

    Raises:
        OSError: it could not be written.
    """
    stack = session.stack
    tensors = {"data": stack.data, "head": stack.head, "count": stack.count}
    metadata = {"format": FORMAT, "model": session.model, "notes": json.dumps(session.notes)}
    partial = file.with_name(f".{file.name}.partial")
    try:
        save_file({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, partial, metadata)
        os.replace(partial, file)
    except SafetensorError as error:
        raise OSError(f"{file} could not be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def load_session(file: Path, model: str | None = None) -> Session:
    """Read a session.

    Args:
        file: what `save_session` wrote.
        model: the fingerprint of the model that is to go on from it; None: any.

    Raises:
        ValueError: no such file, a damaged one, or one of another model.
    """
    if not file.is_file():
        raise ValueError(f"there is no session file {str(file)!r}")
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            stack = ThoughtStack(*(opened.get_tensor(name) for name in ("data", "head", "count")))
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{file} is not a session of unmask's thoughts")
        notes = json.loads(metadata["notes"])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is not a session of unmask's thoughts, or is damaged: {error}") from None
    if model is not None and metadata["model"] != model:
        raise ValueError(
            f"{file} holds the thoughts of another model (fingerprint {metadata['model'][:12]}, not {model[:12]}): "
            "thoughts mean something to the model that had them only"
        )
    return Session(stack, metadata["model"], notes)
