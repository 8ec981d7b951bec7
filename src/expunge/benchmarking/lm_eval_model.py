"""One of our networks behind the interface of lm-eval.

Imports lm-eval, an extra: see `benchmarking.lm_eval_tasks`.

Tokens, truncation and stops are those of lm-eval's own Hugging Face backend, so that numbers are
equal; scores and answers come from `model.score` and `model.generate`, so that a guard counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import nn
from transformers import PreTrainedTokenizerBase

from expunge.data.tokenization import Encoded
from expunge.errors import InputError
from expunge.models.generation import greedy
from expunge.models.scoring import score
from expunge.models.transformer import Network

ROOM = 2048
"""Longest text where a model says nothing of it."""
ANSWER = 256
"""Longest answer where a task says nothing of it."""
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class LmEvalRequest(Protocol):
    """The part of a request of lm-eval that is read."""

    args: tuple[Any, ...]


class LmEvalModel(TemplateLM):
    """Computes what lm-eval requests: likelihoods of continuations and whole texts, and answers.

    Args:
        network: The model, in evaluation mode.
        tokenizer: Its tokenizer.
        tokens_per_pass: Largest number of padded tokens in one forward pass.
    """

    def __init__(
        self, network: Network, tokenizer: PreTrainedTokenizerBase, *, tokens_per_pass: int
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._network = network
        self._tokens = tokens_per_pass
        self._room = _room(network)

    @property
    def eot_token_id(self) -> int:
        """What ends a text."""
        return self._ends()[0]

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text of which every token is scored."""
        bos = self.tokenizer.bos_token_id
        return bos if isinstance(bos, int) else self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        """A name for lm-eval's caches."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: object
    ) -> list[int]:
        """Return the tokens of a text; with BOS where the tokenizer writes one and none is there.

        Args:
            string: The text.
            add_special_tokens: None: as the tokenizer has it.
            _: What other backends take.
        """
        if add_special_tokens is None:
            begun = string.startswith(str(self.tokenizer.decode([self.prefix_token_id])))
            add_special_tokens = not begun
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as the model's template writes it."""
        text = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return str(text)

    def loglikelihood_rolling(
        self, requests: Sequence[LmEvalRequest], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-probability of whole texts, in nats; long ones in disjoint windows."""
        windows: list[tuple[str, list[int], list[int]]] = []
        owners: list[int] = []
        for place, request in enumerate(requests):
            for pair in get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._room,
                context_len=1,
            ):
                windows.append(("", *make_disjoint_window(pair)))
                owners.append(place)
        found = [0.0] * len(requests)
        for place, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            found[place] += value
        return found

    def generate_until(
        self, requests: Sequence[LmEvalRequest], disable_tqdm: bool = False
    ) -> list[str]:
        """Return greedy answers, each up to the first of its stops.

        Raises:
            InputError: A task samples, or leaves no room for a question.
        """
        alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(self._how(request.args[1]), []).append(place)
        answers = [""] * len(requests)
        for (most, stops), places in alike.items():
            room = self._room - most
            if room < 1:
                raise InputError(
                    "no-room",
                    what=f"answers of {most} tokens leave no room for a question",
                    why=f"the model reads {self._room} tokens at once",
                    fix="leave this task of lm-eval out",
                )
            prompts = [tuple(self.tok_encode(requests[at].args[0])[-room:]) for at in places]
            found = self._answers(prompts, most, stops)
            for place, text in zip(places, found, strict=True):
                answers[place] = text
        return answers

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[object, list[int], list[int]]], **kwargs: object
    ) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether it is the greedy one."""
        records: list[Encoded] = []
        for place, (_, context, continuation) in enumerate(requests):
            # The last token predicts nothing, so one more than the room is no token too many.
            ids = tuple(context + continuation)[-(self._room + 1) :]
            start = len(ids) - len(continuation)
            records.append(Encoded(record=str(place), ids=ids, start=max(1, start), ends=False))
        found = score(
            self._network, records, pad_id=self.eot_token_id, tokens_per_pass=self._tokens
        )
        return [(float(each.logp.sum()), bool(each.hit.all())) for each in found]

    def _answers(
        self, prompts: Sequence[tuple[int, ...]], most: int, stops: Sequence[str]
    ) -> list[str]:
        written = greedy(
            self._network,
            prompts,
            end_ids=self._ends(),
            max_new_tokens=most,
            tokens_per_pass=self._tokens,
            enough=lambda ids: any(stop in self._text(ids) for stop in stops),
        )
        texts = [self._text(ids) for ids in written]
        for stop in stops:
            texts = [text.split(stop)[0] for text in texts]
        return texts

    def _how(self, options: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
        """Return the longest answer, and what ends one."""
        if options.get("do_sample") or float(options.get("temperature") or 0) > 0:
            raise InputError(
                "samples",
                what="a task of lm-eval draws its answers at random",
                why="only greedy answers are the same every time, and comparable",
                fix="leave this task of lm-eval out",
            )
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        stops.append(str(self.tokenizer.decode([self.eot_token_id], skip_special_tokens=False)))
        most = next((int(options[word]) for word in _LIMITS if options.get(word)), ANSWER)
        return most, tuple(dict.fromkeys(stop for stop in stops if stop))

    def _ends(self) -> list[int]:
        """Tokens that end an answer, that of the tokenizer first."""
        settings = self._network.model.generation_config
        named = [self.tokenizer.eos_token_id, settings.eos_token_id]
        each = [end for one in named for end in (one if isinstance(one, list) else [one])]
        return list(dict.fromkeys(end for end in each if isinstance(end, int))) or [0]

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _room(network: Network) -> int:
    """Return how many tokens a model reads at once.

    A model with learnt positions has one less here: our passes run over the last token, too.
    """
    config = network.model.config.get_text_config()
    room = int(getattr(config, "max_position_embeddings", None) or ROOM)
    inputs = network.model.get_input_embeddings()
    tables = (part for part in network.trunk.modules() if isinstance(part, nn.Embedding))
    return room - any(table is not inputs for table in tables)
