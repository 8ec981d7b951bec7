"""A decoder-only transformer seen as two halves: a trunk that makes hidden states, and a head.

Keeping them apart is what makes unlearning cheap: the head, a fifth of a small model's arithmetic,
runs only where a token is scored, and representation losses stop the trunk at their layer.
"""

import copy
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from expunge.errors import InputError


class _StopForwardError(Exception):
    """Ends a forward pass once the wanted layer has run."""


class Site(NamedTuple):
    """Where hidden states are read: the residual stream after a block, or its MLP's output."""

    layer: int
    part: Literal["block", "mlp"] = "block"


class Below(NamedTuple):
    """Known states, so that the blocks under them need not run."""

    layer: int
    """The lowest block that runs."""
    states: Tensor
    """[B, L, d]: what that block reads."""


class Push(NamedTuple):
    """A change of the residual stream after a block."""

    layer: int
    change: Tensor
    """[B, L, d], added."""

    def apply(self, output: Tensor) -> Tensor:
        """Return the changed states."""
        return output + self.change


class Seen(NamedTuple):
    """What one forward pass showed."""

    states: Mapping[Site, Tensor]
    """[B, L, d] each."""
    final: Tensor | None
    """[B, L, d] after the final norm, or None where the forward ended before."""


class Network:
    """A causal language model split at its last hidden state.

    Args:
        model: Any decoder-only transformers model with an output embedding.

    Raises:
        InputError: The model has no decoder stack or no language-model head.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        head = model.get_output_embeddings()
        if not isinstance(head, nn.Module) or model.base_model is model:
            raise InputError(
                "not-a-language-model",
                what=f"{type(model).__name__} has no language-model head",
                why="log-probabilities of tokens are what unlearning and its audit work on",
                fix="use a causal language model (a class that ends in ForCausalLM)",
            )
        self.model = model
        self.trunk: nn.Module = model.base_model
        self.head: nn.Module = head
        self.layers = _decoder_layers(model)
        self._final_norm = _final_norm(model, self.layers)
        self.has_plain_head = self._head_is_plain()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.device

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the head scores."""
        return self.head.get_parameter("weight").shape[0]

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> DynamicCache:
        """Run the trunk over the tokens that several records begin with, once for all of them."""
        cache = DynamicCache(config=self.model.config)
        tokens = torch.tensor([ids], device=self.device)
        self.trunk(input_ids=tokens, past_key_values=cache, use_cache=True)
        return cache

    @torch.no_grad()
    def hidden_after(
        self, ids: Tensor, rows: Tensor, columns: Tensor, *, begun: DynamicCache
    ) -> Tensor:
        """Return last hidden states of records whose beginning was read before.

        Args:
            ids: Token ids from the end of that beginning on, [B, L], padded on the right.
            rows: Batch index of each wanted position, [N].
            columns: Time index of each wanted position within `ids`, [N].
            begun: What `read` returned; left as it is.

        Returns:
            Hidden states after the final norm, [N, d].
        """
        cache = copy.deepcopy(begun)
        cache.batch_repeat_interleave(len(ids))
        states = self.trunk(input_ids=ids, past_key_values=cache, use_cache=True)
        return states.last_hidden_state[rows, columns]

    def hidden(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Run the trunk and return the last hidden states at chosen positions.

        Args:
            ids: Token ids, [B, L], padded on the right; causal attention keeps padding unseen.
            rows: Batch index of each wanted position, [N].
            columns: Time index of each wanted position, [N].

        Returns:
            Hidden states after the final norm, [N, d].
        """
        return self.trunk(input_ids=ids, use_cache=False).last_hidden_state[rows, columns]

    def observe(
        self,
        ids: Tensor,
        *,
        sites: Collection[Site] = (),
        final: bool = True,
        below: Below | None = None,
        push: Push | None = None,
    ) -> Seen:
        """Run as much of the trunk as is asked for, once.

        Args:
            ids: Token ids, [B, L], padded on the right.
            sites: Where to read hidden states. Without `final`, the forward ends at the highest.
            final: Whether the last hidden states are wanted.
            below: Known states to start from instead of the embeddings.
            push: Something to add to the residual stream on the way.
        """
        states: dict[Site, Tensor] = {}
        top = -1 if final else max(site.layer for site in sites)
        with ExitStack() as stack:
            if below is not None:
                stack.enter_context(self._lifted(below))
            if push is not None:
                stack.enter_context(_hooked(self.layers[push.layer], push.apply))
            for site in sites:
                keep = partial(_keep, states, site)
                stack.enter_context(_hooked(self._module(site), keep))
            if top >= 0:
                stack.enter_context(_hooked(self.layers[top], _stop))
            try:
                last = self.trunk(input_ids=ids, use_cache=False).last_hidden_state
            except _StopForwardError:
                last = None
        return Seen(states, last)

    def lens(self, states: Tensor) -> Tensor:
        """Apply the final norm to states after some block, [N, d] -> [N, d]: the logit lens."""
        return self._final_norm(states)

    @contextmanager
    def _lifted(self, below: Below) -> Generator[None]:
        """Let the blocks under `below.layer` pass on known states instead of computing them."""

        def pass_on(*_inputs: object, **_options: object) -> Tensor:
            return below.states

        skipped = list(self.layers)[: below.layer]
        try:
            for block in skipped:
                block.forward = pass_on
            yield
        finally:
            for block in skipped:
                del block.forward

    def _module(self, site: Site) -> nn.Module:
        block = self.layers[site.layer]
        return block if site.part == "block" else block.get_submodule("mlp")

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the head to hidden states, [N, d] -> float32 logits [N, V].

        Models that bend their logits after the head (soft-capping, scaling) are run through their
        own forward code, so that the numbers are the model's own.
        """
        if self.has_plain_head:
            return _wide(self.head(hidden))
        with self._trunk_returns(hidden.unsqueeze(0)):
            return _wide(self.model(inputs_embeds=hidden.unsqueeze(0)).logits[0])

    @contextmanager
    def _trunk_returns(self, hidden: Tensor) -> Generator[None]:
        def replace(_module: nn.Module, _inputs: object, output: object) -> object:
            output["last_hidden_state"] = hidden  # type: ignore[index]
            return output

        handle = self.trunk.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def _head_is_plain(self) -> bool:
        ids = torch.arange(4, device=self.device).unsqueeze(0)
        training = self.model.training
        self.model.eval()
        hidden = self.trunk(input_ids=ids, use_cache=False).last_hidden_state
        own = self.model(input_ids=ids).logits
        self.model.train(training)
        return torch.allclose(self.head(hidden), own, rtol=1e-3, atol=1e-3)


@contextmanager
def _hooked(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Generator[None]:
    """Show a module's output to `change`, and replace it by what that returns, if anything."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
        if isinstance(output, Tensor):
            return change(output)
        changed = change(output[0])
        return None if changed is None else (changed, *output[1:])

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _keep(states: dict[Site, Tensor], site: Site, output: Tensor) -> None:
    states[site] = output


def _stop(_output: Tensor) -> None:
    raise _StopForwardError


def _wide(logits: Tensor) -> Tensor:
    """Return logits in at least float32: half precision is too coarse for a log-softmax."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    wanted = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
    raise InputError(
        "no-decoder-layers",
        what=f"{type(model).__name__} has no list of {wanted} decoder layers",
        why="layer-wise methods and adapters need to know where the layers are",
        fix="use a decoder-only model of the usual shape",
    )


def _final_norm(model: PreTrainedModel, layers: nn.ModuleList) -> nn.Module:
    """Find the norm between the last block and the head: the last one beside the blocks."""
    parent = next(
        module for module in model.base_model.modules() if layers in list(module.children())
    )
    norms = [child for child in parent.children() if "norm" in type(child).__name__.lower()]
    return norms[-1] if norms else nn.Identity()
