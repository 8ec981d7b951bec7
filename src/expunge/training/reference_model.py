"""References: what the original model says, computed once before step 0, never by a second model.

Scalars per token for likelihood terms, last hidden states for distribution terms (31 to 99 times
smaller than logits, and exact), states after one block for representation terms. Where runs share a
store, what one of them computed the others read.

In a chain of requests the distribution of retained records is that of the first original: kept to
the model of the request before, small losses would add up. That model is loaded for this moment.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from expunge.data.tokenization import Encoded
from expunge.errors import UsageError
from expunge.methods.base import Distribution, Likelihood, Representation, Stream, Term
from expunge.models.batching import by_length
from expunge.models.scoring import score
from expunge.models.transformer import Network, Site
from expunge.training.activation_cache import DiskCache, Key, LowerStates, key, recalled

SIMILAR = 64
"""Tokens like a secret one: their mean probability is what it would have unlearnt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """Frozen values of the original, by the tokens of a record."""

    network: Network
    head: Mapping[str, Tensor] | None
    """Frozen copies of the head's parameters where the head is trained, else None."""
    logps: Mapping[Key, Tensor]
    hiddens: Mapping[Key, Tensor]
    states: Mapping[tuple[Key, Site], Tensor]
    reinforced: Mapping[Key, Tensor]
    first_head: Mapping[str, Tensor] | None = None
    """The head of the first original, where it is another one."""
    similar: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    """[K] the tokens whose embeddings are nearest to that of a secret token, by the token."""

    def logp(self, record: Encoded) -> Tensor:
        """Return log-probabilities of the scored tokens, [T]."""
        return self.logps[key(record)]

    def hidden(self, record: Encoded) -> Tensor:
        """Return last hidden states at scored positions, [T, d]."""
        return self.hiddens[key(record)]

    def strengthened(self, record: Encoded) -> Tensor:
        """Return last hidden states of the reinforced original, [T, d]."""
        return self.reinforced[key(record)]

    def state(self, record: Encoded, site: Site) -> Tensor:
        """Return states at one site of a block at scored positions, [T, d]."""
        return self.states[key(record), site]

    @torch.no_grad()
    def logits(self, hidden: Tensor, stream: Stream | None = None) -> Tensor:
        """Apply the head of the model that gave hidden states of a stream, [n, d] -> [n, V]."""
        kept = stream is not None and stream.side == "retain" and self.first_head is not None
        head = self.first_head if kept else self.head
        if head is None:
            return self.network.logits(hidden)
        return functional_call(self.network.head, dict(head), (hidden,)).to(
            torch.promote_types(hidden.dtype, torch.float32)
        )


def _secrets(records: Mapping[Stream, Sequence[Encoded]]) -> set[int]:
    return {token for pool in records.values() for record in pool for token in record.secret}


def precompute(
    network: Network,
    terms: Sequence[Term],
    records: Mapping[Stream, Sequence[Encoded]],
    *,
    pad_id: int,
    tokens_per_pass: int,
    reinforced: Mapping[Key, Tensor] | None = None,
    cache: DiskCache | None = None,
    lower: LowerStates | None = None,
    first: Callable[[], Network] | None = None,
) -> References:
    """Compute what the terms declare, for the records that the run will draw.

    Args:
        network: The original: this must run before the first step.
        terms: The terms of the method.
        records: What each stream will bring.
        pad_id: Any token id.
        tokens_per_pass: Largest number of padded tokens in one forward pass.
        reinforced: Last hidden states of the reinforced original, where a term wants them.
        cache: Where to find what other runs from this original computed, and to keep the rest.
        lower: States from which the forward passes can start.
        first: Loads the model whose distribution retained records keep to; None: the original.

    Raises:
        UsageError: The original's distribution cannot be kept for this model and choice of weights.
    """
    logps, hiddens = dict[Key, Tensor](), dict[Key, Tensor]()
    states: dict[tuple[Key, Site], Tensor] = {}
    distribution = any(isinstance(term, Distribution) and term.references for term in terms)
    how = {"pad_id": pad_id, "tokens_per_pass": tokens_per_pass, "lower": lower}
    for term in terms:
        if isinstance(term, Distribution):
            rest = [s for s in term.references if first is None or s.side != "retain"]
            pool = [record for stream in rest for record in records[stream]]
            hiddens |= recalled(cache, "hidden", pool, partial(final_states, network, **how))
            continue
        if not term.needs_reference:
            continue
        pool = [record for stream in term.streams for record in records[stream]]
        if isinstance(term, Likelihood):
            fresh = [record for record in pool if key(record) not in logps]
            logps |= recalled(cache, "logp", fresh, partial(_logps, network, **how))
        else:
            site, states_at = site_of(term), partial(_states, network, site=site_of(term), **how)
            found = recalled(cache, f"{site.part}-{site.layer}", pool, states_at)
            states.update({(name, site): value for name, value in found.items()})
    kept = _of_first(first, network, terms, records, cache, pad_id, tokens_per_pass)
    return References(
        network=network,
        head=_frozen_head(network) if distribution else None,
        first_head=kept.head,
        logps=logps,
        hiddens=hiddens | kept.states,
        states=states,
        reinforced=reinforced or {},
        similar=similar_tokens(network, _secrets(records)),
    )


class _FirstOriginal(NamedTuple):
    """What retained records keep to: hidden states, and the head where it is another one."""

    states: dict[Key, Tensor]
    head: dict[str, Tensor] | None


def _of_first(
    load: Callable[[], Network] | None,
    network: Network,
    terms: Sequence[Term],
    pools: Mapping[Stream, Sequence[Encoded]],
    cache: DiskCache | None,
    pad_id: int,
    tokens_per_pass: int,
) -> _FirstOriginal:
    """Ask the first original, where there is one, about the retained records that terms name."""
    named = [term.references for term in terms if isinstance(term, Distribution)]
    streams = {each for references in named for each in references if each.side == "retain"}
    records = [record for stream in sorted(streams) for record in pools[stream]]
    if load is None or not records:
        return _FirstOriginal({}, None)
    first = load()
    own = None if cache is None else DiskCache.of(cache.folder.parent, first)
    # Blocks below the trained ones may have been trained by an earlier request: no lower states.
    compute = partial(final_states, first, pad_id=pad_id, tokens_per_pass=tokens_per_pass)
    found = recalled(own, "hidden", records, compute)
    now = dict(network.head.named_parameters())
    then = {**now, **dict(first.head.named_parameters())}
    then = {name: each.detach().clone() for name, each in then.items()}
    trains = any(each.requires_grad for each in now.values())
    if not trains and all(torch.equal(then[name], each) for name, each in now.items()):
        return _FirstOriginal(found, None)
    _require_plain_head(network)
    return _FirstOriginal(found, then)


@torch.no_grad()
def similar_tokens(network: Network, tokens: Collection[int]) -> dict[int, Tensor]:
    """Return for each token the `SIMILAR` others with the nearest embeddings, by cosine, [K].

    Args:
        network: Whose input embeddings are compared.
        tokens: Token ids; negative ones are left out.
    """
    wanted = sorted(token for token in tokens if token >= 0)
    if not wanted:
        return {}
    table = network.model.get_input_embeddings().get_parameter("weight").float()
    unit = table / table.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    found: dict[int, Tensor] = {}
    for token in wanted:
        near = unit @ unit[token]  # [V]
        near[token] = -torch.inf
        found[token] = near.topk(min(SIMILAR, len(near) - 1)).indices.cpu()
    return found


def final_states(
    network: Network,
    records: Sequence[Encoded],
    *,
    pad_id: int,
    tokens_per_pass: int,
    lower: LowerStates | None = None,
) -> dict[Key, Tensor]:
    """Return last hidden states at scored positions of each record, [T, d] on the CPU."""
    return _states(
        network,
        records,
        site=None,
        pad_id=pad_id,
        tokens_per_pass=tokens_per_pass,
        lower=lower,
    )


def site_of(term: Representation) -> Site:
    """Return where a representation term reads."""
    return Site(term.layer, term.site)


def _frozen_head(network: Network) -> dict[str, Tensor] | None:
    parameters = dict(network.head.named_parameters())
    if not any(each.requires_grad for each in parameters.values()):
        return None
    _require_plain_head(network)
    return {name: each.detach().clone() for name, each in parameters.items()}


def _require_plain_head(network: Network) -> None:
    if not network.has_plain_head:
        raise UsageError(
            "kl-with-trained-head",
            what="this model bends its logits after the head, and the head is, or was, trained",
            why="the original's distribution could not be rebuilt from its hidden states",
            fix='train an adapter, or set retain = "nll" in [method]',
        )


def _logps(
    network: Network,
    pool: Sequence[Encoded],
    *,
    pad_id: int,
    tokens_per_pass: int,
    lower: LowerStates | None,
) -> dict[Key, Tensor]:
    known = None if lower is None else lower.find
    scores = score(network, pool, pad_id=pad_id, tokens_per_pass=tokens_per_pass, known=known)
    return {key(r): each.logp for r, each in zip(pool, scores, strict=True)}


@torch.no_grad()
def _states(
    network: Network,
    pool: Sequence[Encoded],
    *,
    site: Site | None,
    pad_id: int,
    tokens_per_pass: int,
    lower: LowerStates | None,
) -> dict[Key, Tensor]:
    found: dict[Key, Tensor] = {}
    known = None
    if lower is not None and (site is None or site.layer >= lower.layer):
        known = lower.find
    for group in by_length([len(record.ids) for record in pool], tokens=tokens_per_pass):
        chosen = [pool[index] for index in group]
        batch = network.batch(chosen, pad_id=pad_id)
        below = None if known is None else known(chosen, batch)
        sites = () if site is None else (site,)
        seen = network.observe(
            batch.ids, sites=sites, final=site is None, below=below, layout=batch.layout
        )
        states = seen.final if site is None else seen.states[site]
        assert states is not None
        rows = states[batch.rows, batch.columns]
        sizes = [len(record.ids) - record.start for record in chosen]
        for record, part in zip(chosen, rows.cpu().split(sizes), strict=True):
            found[key(record)] = part.clone()
    return found
