"""Rolling a chain back to the model after an earlier request, whose digest is compared."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from expunge.errors import UsageError
from expunge.models.loading import Source, load
from expunge.pipeline.chain_state import (
    ChainOutcome,
    Rollback,
    model_of,
    require_digest,
    require_state,
    write_state,
)
from expunge.pipeline.run_folder import LOCK, claim
from expunge.provenance.signature import signing_key
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import AnyPath


def rollback(folder: AnyPath, *, to: int, console: Console | None = None) -> ChainOutcome:
    """Return a chain to the model after an earlier request, bit for bit.

    Run folders stay where they are. The requests that are undone are open again.

    Args:
        folder: The folder of the chain.
        to: Number of the request after which the model is wanted; 0: the first original.
        console: Where to say what happens; silent by default.

    Returns:
        The chain as it is now, and the model, whose digest was compared.

    Raises:
        UsageError: There is no such request in the chain.
        InputError: `chain-model-changed`: the model is not, bit for bit, the one of then.

    Example:
        >>> rollback(Path("chain"), to=2).model  # doctest: +SKIP
        'chain/runs/0002-77aa10ce'
    """
    folder = Path(folder)
    console = console or SilentConsole()
    state = require_state(folder)
    if not 0 <= to < len(state.steps):
        raise UsageError(
            "no-such-step",
            what=f"{folder} cannot be rolled back to {to}",
            why=f"it has finished {len(state.steps)} requests, and the last is where it is now",
            fix=f"give a number from 0, the first original, to {len(state.steps) - 1}",
        )
    earlier = replace(state, steps=state.steps[:to])
    lock = claim(folder)
    try:
        source = Source(
            device=torch.device("cpu"), dtype=getattr(torch, state.precision), offline=True
        )
        model = model_of(folder, earlier)
        require_digest(model, load(model, source), earlier.model)
        undone = tuple(step.request for step in state.steps[to:])
        when = datetime.now(UTC).isoformat(timespec="seconds")
        past = Rollback(to=to, undone=undone, when=when)
        state = replace(earlier, rollbacks=(*state.rollbacks, past))
        write_state(folder, state, signing_key(folder))
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.close()
    console.line("model", f"{model}   digest {state.model[:16]}, as it was after request {to}")
    console.note(f"open again: {', '.join(undone)}")
    return ChainOutcome(folder=folder, state=state, model=model)
