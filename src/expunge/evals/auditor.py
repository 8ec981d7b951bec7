"""The auditor: which models are asked what, in which order, so that each is loaded once.

Before training: the golds and the original. After: the unlearned model, three mixtures on the way
from the original to it, and a look by the original at what all of them wrote.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from expunge.attacks.presets import AUDIT_FORMS
from expunge.data.records import Record
from expunge.data.secret_tokens import same_question, with_secrets
from expunge.errors import InputError, is_out_of_memory
from expunge.evals.assess import assess, case_of
from expunge.evals.audit_context import context_of, gold_role, half_role
from expunge.evals.comparison import KNOWN_STRENGTH, HalfTrained, anything_to_forget
from expunge.evals.evidence_table import Table
from expunge.evals.extra_evidence import ExtraEvidence, collect_key_spans
from expunge.evals.results import Results
from expunge.evals.tokenizer_match import TokenReading, token_reading
from expunge.evidence.answer_cache import AnswerCache
from expunge.evidence.collect import Collector, QuestionForm, is_rounded, unit_of
from expunge.evidence.preregistration import preregister
from expunge.evidence.store import EvidenceStore, Unit
from expunge.metrics.base import EXTRACTION_STRENGTH, FACT_LEAK, KEY_FACT
from expunge.models.guarded import unguarded
from expunge.models.interpolation import changed, interpolated, same_shapes
from expunge.models.loading import Loaded, load
from expunge.models.number_formats import FORMATS, held_in
from expunge.models.scoring import score
from expunge.models.transformer import Network
from expunge.preparation.prepare import Prepared, encoder_of
from expunge.training.counterfactual_levels import MarkedScores, as_hard, token_levels
from expunge.training.early_stopping import Unseen, unseen_level
from expunge.utils.console import Bar
from expunge.utils.io import private

LADDER = (0.25, 0.5, 0.75)
"""Shares of the way from the original to the unlearned model at which the auditor tests itself."""

OTHER_WORDS = tuple(form for form in AUDIT_FORMS if not is_rounded(form))
"""Forms on the weights as they are, in which the original is asked, too: a planted refusal must be
caught by these."""

ROUNDED = tuple(form for form in AUDIT_FORMS if is_rounded(form))
"""Forms on rounded weights. Golds are scored in these, and asked what brought a fact back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Auditor:
    """The evidence of one audit while it is collected."""

    prepared: Prepared
    collector: Collector
    golds: tuple[str, ...]
    """References of the gold models."""
    halves: tuple[HalfTrained, ...] = ()
    """Models that were trained on random halves; they are scored on forget and holdout records."""
    cache: AnswerCache | None = None
    """What original and golds said in earlier runs; None: they are asked again."""

    @classmethod
    def open(
        cls,
        prepared: Prepared,
        folder: Path,
        *,
        key: bytes,
        adapter: bool,
        guard: bool = False,
        trained: bool = False,
        halves: tuple[HalfTrained, ...] = (),
    ) -> "Auditor":
        """Start or go on with the evidence in `folder`.

        Args:
            prepared: The inputs of the run.
            folder: The evidence folder.
            key: The operator's key, which seals the evidence where the settings say so.
            adapter: True when what is judged is an unmerged adapter.
            guard: True when what is judged is asked through a guard.
            trained: True when these inputs trained what is judged: then it is known what of the
                sets to keep training saw.
            halves: Models that were trained on random halves of forget and holdout records.
        """
        settings = prepared.settings
        store = EvidenceStore(private(folder), key=key)
        if settings.audit.seal:
            store.seal(key)
        collector = Collector(
            store=store,
            encoder=prepared.encoder,
            records=prepared.audited(),
            max_new_tokens=settings.audit.max_new_tokens,
            tokens_per_pass=settings.train.tokens_per_pass,
            most=settings.audit.attack_records,
            held_out=prepared.scope.held_out if trained else None,
        )
        collector.write_items()
        context = context_of(prepared, store, adapter=adapter, guard=guard, halves=halves)
        preregister(store, context, key=key)
        store.write_context(context)
        golds = settings.request.gold
        return cls(prepared=prepared, collector=collector, golds=golds, halves=halves)

    def units_before(self) -> int:
        """Number of units that `before` counts on its bar."""
        plain = len(self._scored()) + len(self._asked())
        golds = len(self.golds) * (plain + len(AUDIT_FORMS))
        further = 1 + len(self.golds)
        levels = len(self._levels())
        attacked = len(OTHER_WORDS) * len(self._attacked())
        return golds + plain + levels + attacked + further + len(self.halves)

    def units_after(self) -> int:
        """Number of units that `after` counts on its bar."""
        plain = len(self._scored()) + len(self._asked())
        rounded = len(ROUNDED) * len(self.golds)
        return plain + len(AUDIT_FORMS) * len(self._attacked()) + len(LADDER) + 3 + rounded

    def before(self, original: Loaded, bar: Bar) -> int:
        """Ask the original and the golds.

        Returns:
            Number of files that earlier runs had left in the cache.

        Raises:
            InputError: A gold has the original's weights.
        """
        recalled = self._recalled(original, "original")
        self.collector.model(
            original.network,
            "original",
            scored=(*self._scored(), *self._levels()),
            asked=self._asked(),
            forms=OTHER_WORDS,
            attacked=self._attacked(),
            bar=bar,
        )
        self._further.original(original.network)
        bar.advance(1, detail="original further")
        for index, reference in enumerate(self.golds):
            gold = load(reference, self.prepared.source)
            if gold.digest == original.digest:
                raise _no_gold(reference)
            recalled += self._recalled(gold, gold_role(index))
            role = gold_role(index)
            found = self._reading(gold, role)
            self._ask(_every_second(found, "generic"), gold, role, forms=OTHER_WORDS, bar=bar)
            for form in ROUNDED:
                if found.scores is not None:
                    found.scores.rounded_scores(gold.network, role, form, "forget")
                bar.advance(1, detail=f"{role} forget {form.name}")
            if found.scores is self.collector:
                self._further.gold(gold.network, original.network, role, first=not index)
            bar.advance(1, detail=f"{role} further")
        for index, half in enumerate(self.halves):
            recalled += self._score_half(half.reference, half_role(index))
            bar.advance(1, detail=half_role(index))
        collect_key_spans(self.collector, tuple(map(gold_role, range(len(self.golds)))))
        if self.cache is not None:
            self.cache.keep(self.collector.store)
        return recalled

    def _score_half(self, reference: str, role: str) -> int:
        """Score forget and holdout records under a model that was trained on a half of them."""
        model = load(reference, self.prepared.source)
        recalled = self._recalled(model, role)
        for split in ("forget", "holdout"):
            self.collector.scores(model.network, Unit(role=role, split=split, kind="scores"))
        return recalled

    def _recalled(self, model: Loaded, role: str) -> int:
        """Note a model's weights, and take over what it said in earlier runs."""
        self.collector.store.identify(role, model.digest)
        if self.cache is None or model.network.guard is not None:
            return 0
        return self.cache.recall(self.collector.store, role)

    def after(self, unlearned: Network, digest: str, original: dict[str, Tensor], bar: Bar) -> None:
        """Ask the unlearned model and its mixtures with the original.

        Args:
            unlearned: The model to judge; unchanged on return.
            digest: Digest of its weights.
            original: The original's tensors, as far as they differ; none behind a guard, where
                there is nothing between the two to test.
            bar: Advanced by one a unit.
        """
        self.collector.store.identify("unlearned", digest)
        self._note_guard(unlearned)
        if unlearned.guard is None:
            self._repeat(digest)
        self.collector.model(
            unlearned,
            "unlearned",
            scored=self._scored(),
            asked=self._asked(),
            forms=AUDIT_FORMS,
            attacked=self._attacked(),
            bar=bar,
        )
        self._golds_under_rounding(bar)
        self._other_formats(unlearned, self.collector)
        bar.advance(1, detail="unlearned in other formats")
        for share in LADDER:
            unit = Unit(role=f"ladder-{share:g}", split="forget", kind="scores")
            if original and not self.collector.store.has(unit):
                with interpolated(unlearned, original, share):
                    self.collector.scores(unlearned, unit, few=True)
            bar.advance(1, detail=unit.role)
        with interpolated(unlearned, original, 0.0), unguarded(unlearned):
            self._fluency(unlearned, bar)
        self._further.unlearned(unlearned, original)
        bar.advance(1, detail="unlearned further")

    def judged(self, judged: Loaded, original: Loaded, bar: Bar) -> None:
        """Ask any model in the place of the unlearned one, whatever its kind.

        Weights of another shape cannot be mixed with the original's, and another tokenizer may
        hide what weights hold: see `token_reading`. What is left out is noted, the rest measured.

        Args:
            judged: The model to judge; unchanged on return.
            original: The model before forgetting.
            bar: Advanced by one a unit.
        """
        found = self._reading(judged, "unlearned")
        if found.alike and same_shapes(judged.network, original.network.model.state_dict()):
            base = {name: w.cpu() for name, w in original.network.model.state_dict().items()}
            self.after(judged.network, judged.digest, changed(judged.network, base), bar)
            return
        store = self.collector.store
        store.identify("unlearned", judged.digest)
        store.write_context(replace(store.context(), other_tokens=not found.alike))
        self._note_guard(judged.network)
        store.note(
            "the model and the original have weights of other shapes or other tokens, so there are "
            "no models between them: the auditor's ladder was not tested"
        )
        forms = AUDIT_FORMS if found.whole else OTHER_WORDS
        self._ask(found, judged, "unlearned", forms=forms, attacked=self._attacked(), bar=bar)
        if found.scores is not None:
            for form in ROUNDED:
                found.scores.rounded_scores(judged.network, "unlearned", form, "forget")
        self._golds_under_rounding(bar)
        self._fluency(original.network, bar)
        if found.scores is not None:
            self._other_formats(judged.network, found.scores)
        if found.scores is self.collector:
            self._further.gold(judged.network, original.network, "unlearned", first=True)

    def _ask(
        self,
        found: TokenReading,
        model: Loaded,
        role: str,
        *,
        forms: Sequence[QuestionForm],
        attacked: Sequence[str] = ("forget",),
        bar: Bar,
    ) -> None:
        """Ask and score a model; likelihoods of other tokens come after the answers.

        What is known of an answer from likelihoods is known in their tokens.
        """
        found.asks.model(
            model.network,
            role,
            scored=self._scored() if found.whole else (),
            asked=self._asked(),
            forms=forms,
            attacked=attacked,
            bar=bar,
        )
        if found.scores is not None and not found.whole:
            for split in self._scored():
                found.scores.scores(model.network, Unit(role=role, split=split, kind="scores"))

    def _golds_under_rounding(self, bar: Bar) -> None:
        """Ask the golds in each rounded form in which the judged model states a fact.

        Where it states none, no gold is needed: what comes back beyond gold is nothing.
        """
        case = case_of(Table.read(self.collector.store), self.collector.store.context())
        leaking = [
            form
            for form in ROUNDED
            if any(case.column(FACT_LEAK, "unlearned", "forget", form.name).values())
        ]
        for index, reference in enumerate(self.golds):
            role = gold_role(index)
            units = [unit_of(form, role=role, split="forget", kind="answers") for form in leaking]
            if not all(map(self.collector.store.has, units)):
                gold = load(reference, self.prepared.source)
                self.collector.store.identify(role, gold.digest)
                found = self._reading(gold, role)
                if found.whole:
                    found.asks.model(
                        gold.network, role, scored=(), asked=(), forms=leaking, bar=bar
                    )
                    bar.advance(len(ROUNDED) - len(leaking), detail=role)
                    continue
            bar.advance(len(ROUNDED), detail=role)

    def _other_formats(self, judged: Network, collector: Collector) -> None:
        """Score the forget set in every other format in which the judged model may be loaded.

        A format that holds its weights exactly is left out. What lies behind a guard is the
        original, in whichever format.
        """
        if judged.guard is not None:
            return
        native = self.prepared.source.dtype
        for form, dtype in FORMATS.items():
            unit = Unit(role="unlearned", split="forget", precision=form, kind="scores")
            if torch.promote_types(native, dtype) == dtype or self.collector.store.has(unit):
                continue
            try:
                with held_in(judged, form):
                    collector.scores(judged, unit, few=True)
            except InputError as error:
                if error.code != "not-a-number":
                    raise
                self.collector.store.note(
                    f"unlearned gives no numbers in {form}: it cannot run there"
                )
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.collector.store.note(f"unlearned was not scored in {form}: memory ran out")

    def _note_guard(self, judged: Network) -> None:
        told = "" if judged.guard is None else judged.guard.tells
        if told:
            self.collector.store.note(
                f"the guard itself tells of the forget set: it holds {told}; no seal covers "
                "that, and it stays when the evidence is destroyed"
            )

    def _reading(self, model: Loaded, role: str) -> TokenReading:
        """Return who asks and who scores a model, and note what its tokenizer leaves out."""
        own = encoder_of(self.prepared.settings, model.tokenizer)
        found = token_reading(self.collector, model, own)
        if not found.alike:
            self.collector.store.note(
                f"the tokenizer of {role} is not the original's: {found.note}"
            )
        return found

    def _repeat(self, digest: str) -> None:
        """Let a judged model that is the original, or a gold, say again what that has said."""
        store = self.collector.store
        known = [role for role, weights in store.context().models.items() if weights == digest]
        twin = next((role for role in known if role != "unlearned"), None)
        for unit in store.units():
            own = replace(unit, role="unlearned")
            if unit.role == twin and not store.has(own):
                store.write_rows(own.filename, store.read_rows(unit.filename))

    def _fluency(self, original: Network, bar: Bar) -> None:
        for role in ("original", "unlearned", *map(gold_role, range(len(self.golds)))):
            self.collector.fluency(original, role, "forget")
        bar.advance(1, detail="fluency")

    def left_out(self) -> tuple[str, ...]:
        """Return the forget records that the original does not know, which no claim is about.

        See `claimed`. The context of the evidence says how many they are.
        """
        table = Table.read(self.collector.store)
        whole = table.items.get("forget", {})
        kept = case_of(table, self.collector.store.context()).table.items.get("forget", {})
        found = tuple(name for name in whole if name not in kept)
        if found:
            one = len(found) == 1
            self.collector.store.note(
                f"{len(found)} of {len(whole)} forget records {'was' if one else 'were'} not known"
                f" to the original: nothing is claimed about {'it' if one else 'them'}"
            )
        return found

    def require_known(self) -> None:
        """Check that the original measurably knows the forget set, or what is claimed of it.

        With gold or control items this is the audit's own test; without, at least one record must
        be stated or half recited. A request that assumes knowledge is not checked.

        Raises:
            InputError: There is nothing to forget; no weight was moved.
        """
        if self.prepared.settings.request.assume_known:
            return
        case = case_of(Table.read(self.collector.store), self.collector.store.context())
        strength = case.column(EXTRACTION_STRENGTH, "original", "forget")
        stated = case.column(KEY_FACT, "original", "forget")
        known = anything_to_forget(case)
        if known is None:
            known = any(stated.values()) or max(strength.values(), default=0) >= KNOWN_STRENGTH
        if known:
            return
        count = f"it states {sum(stated.values()):.0f} of {len(stated)} facts" if stated else ""
        mean = sum(strength.values()) / max(1, len(strength))
        raise InputError(
            "nothing-to-forget",
            what="the model does not measurably know the forget set",
            why=", ".join(filter(None, (count, f"mean extraction strength {mean:.2f}"))),
            fix="check model, data and template; `expunge audit` writes a report that says so;"
            " where other questions ask for it: --set request.assume_known=true",
        )

    def unseen(self, vocabulary: int, base: Callable[[], Network | None]) -> Unseen:
        """Return how the original scores records that no model saw, on the tokens worked on.

        Args:
            vocabulary: Number of tokens.
            base: Loads the model that the original was trained from, where it is known: it tells
                by how much the forget records are harder than these, and which of their tokens
                follow from the language.
        """
        others: list[Record] = []
        logps: list[Sequence[float]] = []
        scope = self.prepared.scope
        written = self.prepared.settings.request.control != "auto"
        # Made-up words are less likely than any fact: they stand in where nothing else was given.
        all_of = ("holdout", "control") if written or not scope.holdout else ("holdout",)
        for split in ("levels",) if scope.levels else all_of:
            unit = Unit(role="original", split=split, kind="scores")
            if self.collector.store.has(unit):
                rows = {row.record: row for row in self.collector.store.scores(unit)}
                for record in self.collector.records[split]:
                    logps.append(rows[record.id].logp[self.prepared.worked_on(record)])
                    others.append(record)
        alike = same_question(scope.forget, others)
        marks = self._marks(others)
        tokens = token_levels(scope.forget, logps, marks, alike)
        real = bool(others) and (written or bool(scope.holdout or scope.levels))
        network = base()
        plain = [] if network is None else self._scores(network, scope.forget)
        if network is not None and real:
            own = MarkedScores(plain, self._marks(scope.forget))
            unseen = MarkedScores(self._scores(network, others), marks)
            tokens = as_hard(tokens, scope.forget, alike, unseen=unseen, own=own)
        return unseen_level(
            [-sum(logp) / len(logp) for logp in logps],
            vocabulary,
            alike=alike,
            tokens=tokens,
            real=real,
            base={record.id: row for record, row in zip(scope.forget, plain, strict=False)},
        )

    def _scores(self, network: Network, records: Sequence[Record]) -> list[list[float]]:
        """Return log-probabilities of the tokens worked on, under a model that is no role."""
        encoder = self.prepared.encoder
        rows = score(
            network,
            [encoder.encode(record) for record in records],
            pad_id=encoder.pad_id,
            tokens_per_pass=self.prepared.options.tokens_per_pass,
        )
        return [
            row.logp[self.prepared.worked_on(record)].tolist()
            for record, row in zip(records, rows, strict=True)
        ]

    def _marks(self, records: Sequence[Record]) -> list[tuple[int, ...]]:
        """Mark the secret tokens of records among those worked on, as in the forget set."""
        encoder, keep = self.prepared.encoder, self.prepared.scope.keep
        encoded = with_secrets(records, [encoder.encode(r) for r in records], keep, encoder)
        return [
            each.secret[self.prepared.worked_on(record)]
            for record, each in zip(records, encoded, strict=True)
        ]

    def sentence(self, role: str) -> str:
        """Say in one line what a model knows of the forget set."""
        case = case_of(Table.read(self.collector.store), self.collector.store.context())
        stated = case.column(KEY_FACT, role, "forget")
        strength = case.column(EXTRACTION_STRENGTH, role, "forget")
        parts = [f"states {sum(stated.values()):.0f} of {len(stated)} facts"] if stated else []
        if strength:
            parts.append(f"extraction strength {sum(strength.values()) / len(strength):.2f}")
        return ", ".join(parts)

    def judge(self) -> Results:
        """Compute the results from the evidence, and keep what later runs may use again."""
        if self.cache is not None:
            self.cache.keep(self.collector.store)
        return assess(self.collector.store)

    @property
    def _further(self) -> ExtraEvidence:
        return ExtraEvidence(collector=self.collector, deep=self.prepared.settings.audit.further)

    def _scored(self) -> tuple[str, ...]:
        """Every gold is scored on every set: how golds differ is the noise of every gate."""
        return tuple(split for split in self.collector.records if split != "levels")

    def _levels(self) -> tuple[str, ...]:
        """Name the records that set levels, where some do: the original alone is asked for them."""
        return tuple(split for split in self.collector.records if split == "levels")

    def _asked(self) -> tuple[str, ...]:
        """Records that no model saw are asked about only where there is no gold.

        Of general text the instructions are asked, from level standard on.
        """
        wanted = ["forget", "unstated", "retain", "neighbours"]
        wanted += [] if self.golds else ["control"]
        wanted += [] if self.prepared.settings.audit.level == "quick" else ["generic"]
        return tuple(split for split in wanted if split in self.collector.records)

    def _attacked(self) -> tuple[str, ...]:
        """Without gold, control items under the same attack say what guessing brings."""
        alone = not self.golds and "control" in self.collector.records
        return ("forget", "control") if alone else ("forget",)


def _every_second(found: TokenReading, split: str) -> TokenReading:
    """Leave every second record of a set out: golds show how much models of a recipe differ.

    The judged model is compared with the original on all of them.
    """

    def half(reader: Collector) -> Collector:
        records = {n: group[::2] if n == split else group for n, group in reader.records.items()}
        return replace(reader, records=records)

    asks = half(found.asks)
    scores = asks if found.whole else found.scores and half(found.scores)
    return replace(found, asks=asks, scores=scores)


def _no_gold(reference: str) -> InputError:
    return InputError(
        "gold-is-original",
        what=f"the gold {reference} has the weights of the original",
        why="a gold is a model that was not trained on the forget set; held against this one, the "
        "original would have nothing to forget",
        fix="name the model that was trained without the data, or leave request.gold out",
    )
