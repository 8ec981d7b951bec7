"""The answer cache: what original and golds said in earlier runs, found again by content.

    place = sha256(weights, original's weights, number format, device, records, template, limits,
                   seed, versions, code)

Everything that an answer depends on is part of its place, so another model, another record or
another version never hits. Scores of the shipped general text do not depend on the request: they
have a place without its records. Attacks have one that names their facts.

Every place is a sealed evidence folder: what lies there is personal data. It bears the keyed
fingerprints of the forget records, by which `expunge evidence destroy` finds and removes it. What
cannot be read or written is computed again, and said in one line.
"""

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from expunge.errors import InputError
from expunge.evidence.encryption import SUFFIX
from expunge.evidence.store import ORIGINAL, EvidenceStore
from expunge.utils.io import private, read_table, sha256_file, sha256_json, write_json
from expunge.utils.system import cache_folder, code_digest

if TYPE_CHECKING:
    from expunge.preparation.prepare import Prepared

LIMIT = 2 * 1024**3
"""Bytes; the places that were used longest ago go first."""
_ABOUT = "about.json"
_SCHEMA = "expunge.answers/1"
_ROLE = "model"
"""The role that every model has in the cache."""
_GOLD = "gold-"
_GENERAL = "generic"


class Cached(NamedTuple):
    """What the cache holds."""

    places: int
    size: int
    """Bytes."""


def answers_folder() -> Path:
    """Return where answers are kept: the folder `answers` of the user's cache."""
    return cache_folder() / "answers"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerCache:
    """What one run finds in the cache and leaves there."""

    folder: Path
    key: bytes
    """The operator's key, which seals every place."""
    common: Mapping[str, object]
    """What every answer depends on, whichever model gives it."""
    request: str
    """Digest of the records of all sets."""
    general: str
    """Digest of the shipped general text."""
    forget: tuple[str, ...]
    """Keyed fingerprints of the forget records."""
    warn: Callable[[str], None]

    @classmethod
    def of(
        cls,
        prepared: "Prepared",
        *,
        key: bytes,
        forget: Sequence[str],
        warn: Callable[[str], None],
    ) -> "AnswerCache":
        """Return the cache of the user, as a run with these inputs sees it.

        Args:
            prepared: The inputs.
            key: The operator's key.
            forget: Keyed fingerprints of the forget records.
            warn: Told of what could not be read or written.
        """
        import torch  # not above: showing, clearing and destroying answers need neither
        import transformers

        settings, audited = prepared.settings, prepared.audited()
        prompts = settings.audit.prompts
        common = {
            "format": [str(prepared.source.dtype), str(prepared.source.device)],
            "limits": [settings.audit.max_new_tokens, settings.audit.attack_records],
            "tokens": [settings.template, settings.train.max_length],
            "pass": settings.train.tokens_per_pass,
            "seed": settings.train.seed,
            "prompts": sha256_file(Path(prompts)) if prompts else "",
            "versions": [torch.__version__, transformers.__version__, code_digest()],
        }
        sets = [prepared.data_digest, sorted(audited), settings.audit.retain_records]
        return cls(
            folder=answers_folder(),
            key=key,
            common=common,
            request=sha256_json(sets),
            general=sha256_json([record.completion for record in audited.get(_GENERAL, ())]),
            forget=tuple(forget),
            warn=warn,
        )

    def recall(self, store: EvidenceStore, role: str) -> int:
        """Copy what a model said in earlier runs into the evidence of this one.

        Args:
            store: The evidence; it names the weights of `role` and of the original.
            role: The original or a gold.

        Returns:
            Number of files.
        """
        count = 0
        for place in (self._place(store, role, general=kind) for kind in (True, False)):
            try:
                count += self._copied(place, store, role)
            except (InputError, OSError, ValueError):
                self._drop(place)
        return count

    def attacks(self, store: EvidenceStore) -> EvidenceStore | None:
        """Return where attacks on original and golds are kept; None where nothing can be written.

        Args:
            store: The evidence; it names the facts that attacks look for.
        """
        facts = [asdict(span) for span in store.key_spans()]
        place = self.folder / _name({**self.common, "records": self.request, "facts": facts})
        try:
            opened = self._opened(place, self.forget)
            for name in _attacks(opened):
                opened.read_rows(name)
        except OSError as error:
            self._say_unwritable(error)
            return None
        except (InputError, ValueError):
            self._drop(place)
            return self._opened(place, self.forget)
        return opened

    def keep(self, store: EvidenceStore) -> None:
        """Leave what original and golds said for later runs, and keep within the limit."""
        try:
            for role in store.context().models:
                if role == ORIGINAL or role.startswith(_GOLD):
                    self._leave(store, role)
            trim(self.folder, LIMIT)
        except OSError as error:
            self._say_unwritable(error)

    def _copied(self, place: Path, store: EvidenceStore, role: str) -> int:
        if not (place / _ABOUT).is_file():
            return 0
        os.utime(place)
        source = EvidenceStore(place, key=self.key)
        missing = {
            unit.filename: own.filename
            for unit in source.units()
            if not store.has(own := replace(unit, role=role))
        }
        for theirs, own in missing.items():
            store.write_rows(own, source.read_rows(theirs))
        return len(missing)

    def _leave(self, store: EvidenceStore, role: str) -> None:
        units = [unit for unit in store.units() if unit.role == role]
        for general in (True, False):
            chosen = [unit for unit in units if (unit.split == _GENERAL) == general]
            if not chosen:
                continue
            place = self._place(store, role, general=general)
            target = self._opened(place, () if general else self.forget)
            for unit in chosen:
                rows, kept = store.read_rows(unit.filename), replace(unit, role=_ROLE).filename
                if not target.holds(kept) or target.read_rows(kept) != rows:
                    target.write_rows(kept, rows)

    def _place(self, store: EvidenceStore, role: str, *, general: bool) -> Path:
        models = store.context().models
        content = {
            **self.common,
            "model": models[role],
            "original": models[ORIGINAL],
            "kind": ORIGINAL if role == ORIGINAL else _GOLD,
            "first": role == f"{_GOLD}0",  # some tests are made of the first gold alone
            "records": self.general if general else self.request,
        }
        return self.folder / _name(content)

    def _opened(self, place: Path, forget: Sequence[str]) -> EvidenceStore:
        """Open a place for writing, sealed; make it where it is not there."""
        if not (place / _ABOUT).is_file():
            private(self.folder)
            write_json(private(place) / _ABOUT, {"schema": _SCHEMA, "forget": forget})
        os.utime(place)
        store = EvidenceStore(place)
        store.seal(self.key)
        return store

    def _drop(self, place: Path) -> None:
        self.warn(f"{place} cannot be read: what it held is computed again")
        shutil.rmtree(place, ignore_errors=True)

    def _say_unwritable(self, error: OSError) -> None:
        self.warn(f"{self.folder} takes no answers ({error.strerror}): later runs compute them")


def _name(content: Mapping[str, object]) -> str:
    return sha256_json(content)[:24]


def _attacks(store: EvidenceStore) -> list[str]:
    paths = sorted((store.folder / "attacks").glob(f"*.jsonl{SUFFIX}"))
    return [f"attacks/{path.name.removesuffix(SUFFIX)}" for path in paths]


def cached(folder: Path) -> Cached:
    """Return how much the cache holds."""
    places = _places(folder)
    return Cached(len(places), sum(map(_size, places)))


def clear(folder: Path) -> Cached:
    """Remove every answer, and return what that was."""
    held = cached(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return held


def destroy_answers(folder: Path, forget: Collection[str]) -> int:
    """Remove every place that holds one of these forget records.

    Args:
        folder: The cache.
        forget: Keyed fingerprints of the records.

    Returns:
        Number of places.
    """
    marks = set(forget)
    gone = [place for place in _places(folder) if marks & _marks(place)]
    for place in gone:
        shutil.rmtree(place, ignore_errors=True)
    return len(gone)


def trim(folder: Path, limit: int) -> None:
    """Remove the places that were used longest ago until the rest fits.

    Args:
        folder: The cache.
        limit: Bytes.
    """
    places = sorted(_places(folder), key=lambda place: place.stat().st_mtime, reverse=True)
    total = 0
    for place in places:
        total += _size(place)
        if total > limit:
            shutil.rmtree(place, ignore_errors=True)


def _places(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{_ABOUT}"))


def _marks(place: Path) -> set[str]:
    try:
        return set(map(str, read_table(place / _ABOUT).get("forget", ())))
    except InputError:
        return set()


def _size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
