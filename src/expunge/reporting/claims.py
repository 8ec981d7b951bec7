"""Claims: what may be said of a model, compared with what, and what ends it.

A claim has a class, a reference state and a horizon. The words that a class supports are enforced
here, for the letter, the annex, the certificate, the model card and the report alike.

    E4  exact replay     the model equals a training without the records
    E3  isolation        it was trained from a state that had not seen them
    E2  bound            a proof limits the influence of the records
    E1  empirical        tests alone speak
    E0  suppression      the data is not said, and may still be in the weights
"""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from expunge.errors import InputError
from expunge.evals.results import PASSES, Verdict
from expunge.reporting import wording
from expunge.reporting.schema import RunFacts
from expunge.utils.dates import months_later

MONTHS = 12
"""How long a result stands where nothing else ends it."""

RETRAINING = "retraining"
"""Reference state of a claim about how the model was made."""

_REPEATED = {
    "E4": "a training without the records, repeated from the log of the original's training",
    "E3": "a training that began before the records were first used, repeated without them",
    "E2": "a training without the records, of which a proof limits the distance",
}
"""The same in words, by claim class."""

_UNCHANGED = "the unchanged model beneath, and for its answers: "

_TOO_MUCH = (
    r"delet(?:e|ed|es|ing)|deletion|eras(?:e|ed|es|ing)|wiped?|purged?|guarante\w+|prove[dns]?|proof"
    r"|certif(?:y|ied|ies)|certain(?:ly)?|definite(?:ly)?|impossible|irreversibl[ey]|permanent(?:ly)?"
    r"|forever|anonym(?:ous|ised|ized)|for good"
)
"""What no test of a model's behaviour supports."""
_LEFT = (
    r"(?<!weights )(?<!adapter )removed|(?:has|have) left|(?:is|are) gone"
    r"|no longer (?:holds?|contains?|knows?|has)"
)
"""What suppression does not support: the weights beneath are what they were. `weights removed` and
`the adapter removed` are names of attacks."""

_FORBIDDEN = {
    "E4": r"anonym(?:ous|ised|ized)|guarante\w+|certif(?:y|ied|ies)|impossible",
    "E3": r"anonym(?:ous|ised|ized)|guarante\w+|certif(?:y|ied|ies)|impossible|byte for byte",
    "E2": r"delet(?:e|ed|es|ing)|deletion|eras(?:e|ed|es|ing)|wiped?|purged?|guarante\w+|impossible"
    r"|forever|anonym(?:ous|ised|ized)|for good",
    "E1": _TOO_MUCH,
    "E0": f"{_TOO_MUCH}|{_LEFT}",
}
"""Claim class to the words that no sentence may assert."""
_REQUIRED = {
    "E0": r"may still be in|is still in|remains? in|weights (?:beneath|are unchanged)",
    "E1": r"[Nn]o test|tests alone speak",
}
"""Claim class to what must be said somewhere."""

_DENIED = re.compile(r"\b(?:not|no|cannot|never|nobody|nothing|nor|neither|none)\b", re.IGNORECASE)
_REQUEST = re.compile(r"\W*(?:you asked|asked for|removal was asked for)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?:;|])\s+|\n+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What is claimed of the model of a run.

    Example:
        >>> claim = Claim(level="E1", state="G1", reference="a gold", until=date(2027, 12, 1))
        >>> claim.words
        'empirical: tests alone speak; no test can show that the data left the weights'
    """

    level: str
    """`E4` to `E0`; a key of `wording.CLAIMS`."""
    state: str
    """The reference state: a tier, `G1` to `G4`, or `retraining`; a code, for words may change."""
    reference: str
    """The same in words."""
    until: date
    """The day after which the claim no longer stands."""

    @property
    def words(self) -> str:
        """What the class means."""
        return wording.CLAIMS[self.level]

    @property
    def voided_by(self) -> tuple[str, ...]:
        """What ends the claim before its day."""
        cover = ("taking the guard or the adapter off",) if self.level == "E0" else ()
        return (*wording.VOIDED_BY, *cover)

    def to_json(self) -> dict[str, Any]:
        """Return class, reference state and horizon as JSON values."""
        return {
            "class": self.level,
            "reference_state": self.state,
            "valid_until": self.until.isoformat(),
            "voided_by": list(self.voided_by),
        }


def claim_of(verdict: Verdict, facts: RunFacts) -> Claim:
    """Return the claim of a run: it follows from the verdict and from how the model was made.

    Args:
        verdict: What the audit concluded.
        facts: What the run did.

    Raises:
        InputError: The facts name no class of claim, or no date.
    """
    level = wording.claim(verdict, exact=facts.exact)
    try:
        begun = datetime.fromisoformat(facts.created).date()
    except ValueError:
        raise _unknown(f"its date is {facts.created!r}") from None
    if level not in wording.CLAIMS:
        raise _unknown(f"its class of claim is {level!r}")
    compared = wording.TIERS[verdict.tier]
    reference = _REPEATED.get(level, f"{_UNCHANGED}{compared}" if level == "E0" else compared)
    state = RETRAINING if level in _REPEATED else verdict.tier
    return Claim(level=level, state=state, reference=reference, until=months_later(begun, MONTHS))


def passed(verdict: Verdict) -> bool:
    """Tell whether a verdict is a pass, with a trace or without."""
    return verdict.ruling in PASSES


def overstated(text: str, *, level: str, passed: bool) -> list[str]:
    """Return the sentences of a text that assert more than a claim supports.

    A sentence that denies the word before it uses it asserts nothing, nor does a question, nor does
    a sentence that repeats what was asked for.

    Args:
        text: Plain text, or Markdown.
        level: The claim class.
        passed: Whether the verdict is a pass; otherwise the words of tests are the most there is.

    Example:
        >>> overstated("Your data was deleted. Nothing was guaranteed.", level="E1", passed=True)
        ['Your data was deleted.']
    """
    words = _FORBIDDEN[level] if passed else f"{_FORBIDDEN[level]}|{_TOO_MUCH}"
    pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    return [
        sentence.strip()
        for sentence in _SENTENCE.split(text)
        if _asserts(sentence, pattern) and not _REQUEST.match(sentence)
    ]


def missing_words(text: str, *, level: str) -> bool:
    """Tell whether a text leaves out what its claim class obliges it to say.

    Args:
        text: The whole text.
        level: The claim class.

    Example:
        >>> missing_words("The model does not say it any more.", level="E0")
        True
    """
    required = _REQUIRED.get(level)
    return required is not None and re.search(required, text) is None


def _asserts(sentence: str, pattern: re.Pattern[str]) -> bool:
    found = pattern.search(sentence)
    if found is None or sentence.rstrip().endswith("?"):
        return False
    return _DENIED.search(sentence[: found.start()]) is None


def _unknown(why: str) -> InputError:
    return InputError(
        "no-claim",
        what="this run makes no claim that this version knows",
        why=why,
        fix="run the audit again with this version, or use the version that wrote the run",
    )
