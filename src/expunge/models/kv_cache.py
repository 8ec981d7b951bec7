"""Keys and values of the tokens read so far, in memory with room for those to come.

The cache of transformers copies all that it holds for every new token: where short answers are
written side by side, nearly as much memory traffic as reading the weights. Here a layer copies what
it holds once in `STEP` tokens, and hands out views of the part that is filled. No gradient goes
through it.
"""

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

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
