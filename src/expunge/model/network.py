"""A decoder-only transformer seen as two halves: a trunk that makes hidden states, and a head.

Keeping them apart is what makes unlearning cheap: the head, a fifth of a small model's arithmetic,
runs only where a token is scored, and representation losses stop the trunk at their layer.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from expunge.errors import InputError


class _StopForwardError(Exception):
    """Ends a forward pass once the wanted layer has run."""


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
        self.has_plain_head = self._head_is_plain()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.device

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the head scores."""
        return self.head.get_parameter("weight").shape[0]

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

    def hidden_after(self, ids: Tensor, layer: int) -> Tensor:
        """Run the trunk up to block `layer` and return the residual stream there, [B, L, d]."""
        caught: list[Tensor] = []

        def catch(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            caught.append(output if isinstance(output, Tensor) else output[0])
            raise _StopForwardError

        handle = self.layers[layer].register_forward_hook(catch)
        try:
            self.trunk(input_ids=ids, use_cache=False)
        except _StopForwardError:
            pass
        finally:
            handle.remove()
        return caught[0]

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
