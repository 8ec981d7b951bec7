"""A decoder-only transformer seen as two halves: a trunk that makes hidden states, and a head.

Keeping them apart is what makes unlearning cheap: the head, a fifth of a small model's arithmetic,
runs only where a token is scored, and representation losses stop the trunk at their layer.

Keys and values of the tokens read so far lie in memory with room for those to come. The cache of
transformers copies all that it holds for every new token: where short answers are written side by
side, nearly as much memory traffic as reading the weights. Here a layer copies what it holds once
in `STEP` tokens, and hands out views of the part that is filled. No gradient goes through it.
"""

import copy
import sys
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from expunge.data.tokenization import Encoded
from expunge.errors import InputError
from expunge.methods.guards.base import GuardRules
from expunge.models.architecture import cache_word, decoder_layers, final_norm, hooked
from expunge.models.batching import (
    ATTENTION,
    Batch,
    LostLayoutError,
    PackLayout,
    by_record,
    collate,
    no_mask,
    pack,
)
from expunge.models.cpu_kernels import choose_products

STEP = 64
"""Columns by which the memory of a layer grows."""


def new_cache(config: PreTrainedConfig) -> DynamicCache:
    """Return an empty cache for a model; layers other than plain attention are transformers'."""
    cache = DynamicCache(config=config)
    cache.layers = [
        GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


class GrowingLayer(DynamicLayer):
    """Keys and values of a block that attends to all earlier tokens."""

    def __init__(self) -> None:
        super().__init__()
        self._keys, self._values = _Columns(), _Columns()

    def update(
        self, key_states: Tensor, value_states: Tensor, *_more: object, **_options: object
    ) -> tuple[Tensor, Tensor]:
        """Take in new keys and values, [b, heads, n, d], and return all, [b, heads, L, d]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._keys.behind(self.keys, key_states)
        self.values = self._values.behind(self.values, value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows of the batch, and the room behind them."""
        if self.get_seq_length() > 0:
            self.keys = self._keys.chosen(self.keys, indices)
            self.values = self._values.chosen(self.values, indices)


class _Columns:
    """Memory for [b, heads, room, d], and the view of its first columns handed out last.

    Columns that are not this view, such as rows that transformers has repeated, get new memory.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None
        self._view: Tensor | None = None

    def behind(self, columns: Tensor | None, new: Tensor) -> Tensor:
        """Return the columns with new ones behind them."""
        before = columns.shape[-2] if columns is not None and columns.numel() else 0
        length = before + new.shape[-2]
        memory = self._memory  # [b, heads, room, d], room >= length
        if memory is None or columns is not self._view or length > memory.shape[-2]:
            room = -(-length // STEP) * STEP  # rounded up
            memory = new.new_empty(*new.shape[:-2], room, new.shape[-1])
            if columns is not None and before:
                memory[..., :before, :] = columns
        memory[..., before:length, :] = new
        return self._handed(memory, length)

    def chosen(self, columns: Tensor | None, rows: Tensor) -> Tensor:
        """Return some rows of the columns."""
        assert columns is not None, "rows are selected only in a cache that holds something"
        # Columns made elsewhere are not a view of this memory: their rows are copied as they are.
        if self._memory is None or columns is not self._view:
            return columns.index_select(0, rows)
        return self._handed(self._memory.index_select(0, rows), columns.shape[-2])

    def _handed(self, memory: Tensor, length: int) -> Tensor:
        self._memory, self._view = memory, memory[..., :length, :]
        return self._view


_PACKED_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of blocks whose memory of a record is its keys and values."""


class _StopForwardError(Exception):
    """Ends a forward pass once the wanted layer has run."""


class Site(NamedTuple):
    """Where hidden states are read: the residual stream after a block, or its MLP's output."""

    layer: int
    part: Literal["block", "mlp"] = "block"


class CachedStates(NamedTuple):
    """Known states, so that the blocks under them need not run."""

    layer: int
    """The lowest block that runs."""
    states: Tensor
    """[B, L, d]: what that block reads."""


class ActivationPatch(NamedTuple):
    """A change of the residual stream after a block."""

    layer: int
    change: Tensor
    """[B, L, d], added."""

    def apply(self, output: Tensor) -> Tensor:
        """Return the changed states."""
        return output + self.change


class ForwardOutput(NamedTuple):
    """Hidden states of one forward pass."""

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
        choose_products(model)
        self.model = model
        self.trunk: nn.Module = model.base_model
        self.head: nn.Module = head
        self.layers = decoder_layers(model)
        self._final_norm = final_norm(model, self.layers)
        self.has_plain_head, self.in_tuples, self._output = self._tried()
        """Whether logits are what the head makes, whether blocks return tuples, and what the trunk
        returns."""
        self.guard: GuardRules | None = None
        """What stands around the model when it is scored or writes."""
        self._cache_word = cache_word(self.trunk)
        self.packs_up_to = self._longest_packed()
        """The longest record whose tokens need not lie side by side; 0: all must."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.device

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the head scores."""
        return self.head.get_parameter("weight").shape[0]

    def batch(self, records: Sequence[Encoded], *, pad_id: int, share: bool = True) -> Batch:
        """Lay records out for one forward pass: packed where the architecture allows, else padded.

        Args:
            records: At least one.
            pad_id: Any token id; padding is never seen.
            share: Whether a pack may hold what all records begin with once.
        """
        if max(len(record.ids) for record in records) <= self.packs_up_to:
            return pack(records, device=self.device, share=share)
        return collate(records, pad_id=pad_id, device=self.device)

    @torch.no_grad()
    def read(self, ids: Sequence[int]) -> DynamicCache:
        """Run the trunk over the tokens that several records begin with, once for all of them.

        Without tokens the cache is empty.
        """
        cache = new_cache(self.model.config)
        if ids:
            self.go_on(torch.tensor([ids], device=self.device), cache)
        return cache

    def go_on(self, ids: Tensor, cache: DynamicCache, **where: Tensor) -> Tensor:
        """Run the trunk over tokens that follow those of a cache, which takes them in.

        Args:
            ids: Token ids, [B, L].
            cache: Keys and values of what came before.
            where: `attention_mask` and `position_ids`, where rows differ in length.

        Returns:
            Last hidden states, [B, L, d].
        """
        known = {self._cache_word: cache, **where}
        return self.trunk(input_ids=ids, use_cache=True, **known).last_hidden_state

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
        return self.go_on(ids, cache)[rows, columns]

    def hidden(
        self,
        ids: Tensor,
        rows: Tensor,
        columns: Tensor,
        *,
        layout: PackLayout | None = None,
        below: CachedStates | None = None,
    ) -> Tensor:
        """Run the trunk and return the last hidden states at chosen positions.

        Args:
            ids: Token ids, [B, L], padded on the right; causal attention keeps padding unseen. Or
                a pack, [1, T].
            rows: Batch index of each wanted position, [N].
            columns: Time index of each wanted position, [N].
            layout: How the records of a pack lie.
            below: Known states to start from instead of the embeddings.

        Returns:
            Hidden states after the final norm, [N, d].
        """
        with nullcontext() if below is None else self._lifted(below):
            return self._run(ids, layout)[rows, columns]

    def observe(
        self,
        ids: Tensor,
        *,
        sites: Collection[Site] = (),
        final: bool = True,
        below: CachedStates | None = None,
        push: ActivationPatch | None = None,
        layout: PackLayout | None = None,
        cache: DynamicCache | None = None,
        where: Mapping[str, Tensor] | None = None,
    ) -> ForwardOutput:
        """Run as much of the trunk as is needed, once.

        Args:
            ids: Token ids, [B, L], padded on the right, or a pack, [1, T]; as `go_on` says, where
                there is a cache.
            sites: Where to read hidden states. Without `final`, the forward ends at the highest.
            final: Whether the last hidden states are wanted.
            below: Known states to start from instead of the embeddings.
            push: Something to add to the residual stream on the way.
            layout: How the records of a pack lie.
            cache: Keys and values of the tokens before; it takes in those of the blocks that run.
            where: As for `go_on`.
        """
        states: dict[Site, Tensor] = {}
        top = -1 if final else max(site.layer for site in sites)
        with ExitStack() as stack:
            if below is not None:
                stack.enter_context(self._lifted(below))
            if push is not None:
                stack.enter_context(hooked(self.layers[push.layer], push.apply))
            for site in sites:
                keep = partial(_keep, states, site)
                stack.enter_context(hooked(self._module(site), keep))
            if top >= 0:
                stack.enter_context(hooked(self.layers[top], _stop))
            try:
                last = (
                    self._run(ids, layout)
                    if cache is None
                    else self.go_on(ids, cache, **(where or {}))
                )
            except _StopForwardError:
                last = None
        return ForwardOutput(states, last)

    def lens(self, states: Tensor) -> Tensor:
        """Apply the final norm to states after some block, [N, d] -> [N, d]: the logit lens."""
        return self._final_norm(states)

    def _run(self, ids: Tensor, layout: PackLayout | None) -> Tensor:
        if layout is None:
            return self.trunk(input_ids=ids, use_cache=False).last_hidden_state
        return self.trunk(
            input_ids=ids,
            attention_mask=no_mask(ids.device),
            position_ids=layout.positions,
            layout=layout,
            use_cache=False,
        ).last_hidden_state

    @contextmanager
    def _lifted(self, below: CachedStates) -> Generator[None]:
        """Let the blocks under `below.layer` pass on known states instead of computing them."""

        def pass_on(*_inputs: object, **_options: object) -> Tensor | tuple[Tensor]:
            return (below.states,) if self.in_tuples else below.states

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

        Models that change their logits after the head (soft-capping, scaling) compute them in their
        own forward code, so that the numbers are the model's own; no block runs for that.
        """
        if self.has_plain_head:
            return _wide(self.head(hidden))
        with self._trunk_returns(hidden.unsqueeze(0)):
            return _wide(self.model(inputs_embeds=hidden.unsqueeze(0)).logits[0])

    @contextmanager
    def _trunk_returns(self, hidden: Tensor) -> Generator[None]:
        """Let the trunk return known states, in what it wraps its own, instead of running."""

        def known(*_inputs: object, **_options: object) -> object:
            return self._output(last_hidden_state=hidden)

        try:
            self.trunk.forward = known
            yield
        finally:
            del self.trunk.forward

    @torch.no_grad()
    def _tried(self) -> tuple[bool, bool, Callable[..., object]]:
        """Return whether logits are the head's output, whether blocks return tuples, and a class.

        The class is that of the trunk's output, in which the model reads fields of its own.
        """
        ids = torch.arange(4, device=self.device).unsqueeze(0)
        training = self.model.training
        self.model.eval()
        returned: list[object] = []

        def seen(_block: nn.Module, _inputs: object, output: object) -> None:
            returned.append(output)

        handle = self.layers[0].register_forward_hook(seen)
        output = self.trunk(input_ids=ids, use_cache=False)
        handle.remove()
        own = self.model(input_ids=ids).logits
        self.model.train(training)
        plain = torch.allclose(self.head(output.last_hidden_state), own, rtol=1e-3, atol=1e-3)
        return plain, isinstance(returned[0], tuple), type(output)

    def _longest_packed(self) -> int:
        """The longest record that may be packed: 0 where a trial shows that none may.

        Attention with a window looks back less far than packing lets it, so longer records than the
        window are padded.
        """
        config = self.model.config.get_text_config()
        known = config.to_dict()
        kinds: set[str] = set(known.get("layer_types") or ())
        before = config._attn_implementation  # pyright: ignore[reportPrivateUsage]
        if before not in ("sdpa", ATTENTION) or kinds - _PACKED_LAYERS:
            return 0
        self.model.set_attn_implementation(ATTENTION)
        if not self._packs():
            self.model.set_attn_implementation(before)
            return 0
        windowed = not kinds or "sliding_attention" in kinds
        return (windowed and known.get("sliding_window")) or sys.maxsize

    @torch.no_grad()
    def _packs(self) -> bool:
        """Tell whether a pack computes what its records give one by one."""
        training = self.model.training
        self.model.eval()
        rows = [(7, 6, 5, 4, 3, 2, 1), (7, 6, 5, 4, 2, 3, 1, 5, 6)]
        tried = [Encoded(record="", ids=ids, start=6, ends=True) for ids in rows]
        try:
            together, *single = [self._packed(some) for some in (tried, tried[:1], tried[1:])]
            alone = [self._run(torch.tensor([ids], device=self.device), None)[0] for ids in rows]
        except (LostLayoutError, TypeError, ValueError, RuntimeError):
            return False
        finally:
            self.model.train(training)
        # In 16 bits PyTorch's own kernel is another, and rounds in another order in every block: up
        # to 0.11 for 30 blocks. Records that see each other, or lost positions, are above 1.
        wide = torch.finfo(alone[0].dtype).bits >= 32
        others, own = (1e-4, 1e-4) if wide else (0.15, 0.3)
        return all(
            _apart(found, one) <= others and _apart(one, plain) <= own
            for found, (one,), plain in zip(together, single, alone, strict=True)
        )

    def _packed(self, records: Sequence[Encoded]) -> list[Tensor]:
        """Return the last states of each record of a pack."""
        batch = pack(records, device=self.device)
        return by_record(self._run(batch.ids, batch.layout), batch)


def _apart(found: Tensor, expected: Tensor) -> float:
    """Return the greatest difference, in units of the greatest value; NaN counts as far."""
    return float((found - expected).abs().max().nan_to_num(torch.inf) / expected.abs().max())


def _keep(states: dict[Site, Tensor], site: Site, output: Tensor) -> None:
    states[site] = output


def _stop(_output: Tensor) -> None:
    raise _StopForwardError


def _wide(logits: Tensor) -> Tensor:
    """Return logits in at least float32: half precision is too coarse for a log-softmax."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
