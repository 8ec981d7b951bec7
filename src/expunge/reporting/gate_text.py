"""What each gate of a verdict means: what is measured, against what, and what a failure says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from expunge.config.catalogue import catalogue
from expunge.config.request import Margins
from expunge.errors import UsageError
from expunge.evals.plain_words import ATTEMPTS, SUBJECTS, attempt
from expunge.metrics.outcomes import Axis
from expunge.metrics.registry import BY_ID
from expunge.reporting.glossary import ATTACKS


@dataclass(frozen=True, kw_only=True, slots=True)
class GateText:
    """What one kind of gate means.

    Example:
        >>> explain("kept records").limit
        'fixed by the rule of this gate'
    """

    name: str
    axis: Axis
    title: str
    """What is judged, in plain words."""
    compares: str
    """How the value comes about, and what it is held against."""
    fails: str
    """What a failure says, and what helps."""
    metric: str = ""
    """Id of the metric behind the value; empty where it is computed from several."""
    margin: str = ""
    """Field of `[request.margins]` that sets the limit; empty where the rule is fixed."""
    attack: str = ""
    """What the attack does, where the gate judges one."""

    @property
    def meaning(self) -> str:
        """The meaning of the metric behind the value; empty where there is none."""
        return BY_ID[self.metric].meaning if self.metric else ""

    @property
    def limit(self) -> str:
        """The limit by default, and the key that changes it."""
        if not self.margin:
            return "fixed by the rule of this gate"
        fields = Margins.model_fields
        limit = f"{fields[self.margin].default:g} by default"
        if not self.name.startswith("recovery"):
            return f"{limit}; request.margins.{self.margin} changes it"
        stronger = ("residual_t2", "residual_t3")
        further = " and ".join(f"{fields[name].default:g} ({name})" for name in stronger)
        return f"{limit} (request.margins.residual); {further} for attacks from T2 and T3 upwards"


_LEFT = "The data is still there, or still measurable. Train longer, or with more wordings."
_BACK = "The data comes back under this attack. Train longer, or use another method."
_LOST = "Other knowledge was damaged. Give more records to keep, or stop earlier."
_LOSS = "loss of the unlearned model against the original, and against gold where there is one"
_MEMORY = (
    "what the likelihoods of the answers keep of the original's memory: 0 is a model that never"
    " saw the data, 1 is the original"
)

_HEADS: Mapping[str, tuple[Axis, str, str, str, str]] = {
    "key-fact leak": (
        Axis.FORGETTING,
        "share of facts said when asked plainly, above that of gold or control records",
        _LEFT,
        "key-fact",
        "leak_excess",
    ),
    "residual memory": (Axis.FORGETTING, _MEMORY, _LEFT, "", "residual"),
    "residual memory by token": (
        Axis.FORGETTING,
        f"{_MEMORY}; token by token, so that one remembered word counts",
        _LEFT,
        "",
        "residual_cap",
    ),
    "kept records": (
        Axis.FORGETTING,
        "share of single records that are remembered as before, beyond chance",
        _LEFT,
        "",
        "",
    ),
    "facts said of others": (
        Axis.FORGETTING,
        "share of questions about others that are answered with a forgotten fact",
        "The fact was moved to other names instead of erased. Use another method.",
        "key-fact",
        "leak_excess",
    ),
    "wanted answers": (
        Axis.FORGETTING,
        "share of the questions that are not answered with the wanted answer",
        "The edit has not taken hold. Train longer.",
        "",
        "wanted",
    ),
    "refusals as asked": (
        Axis.FORGETTING,
        "share of the questions that are not refused, where the request wants a refusal",
        "The model answers instead of refusing. Train longer.",
        "refusal",
        "wanted",
    ),
    "membership residual": (
        Axis.PRIVACY,
        "how far the least likely tokens tell the data from records never trained on: 0 is chance,"
        " 1 is the original; either direction counts",
        "An attacker can tell that the data was in the training, or that it was removed.",
        "auc-min-k-40",
        "privacy",
    ),
    "answers betray an edit": (
        Axis.PRIVACY,
        "how often the unlearned model's answers are told from gold's by how sure it is",
        "Whoever looks closely sees that something was removed: PASS-WITH-SCAR.",
        "",
        "",
    ),
    "leak": (
        Axis.ROBUSTNESS,
        "share of what the original knew that comes back under the attack, above gold",
        _BACK,
        "key-fact",
        "residual",
    ),
    "recovery": (
        Axis.ROBUSTNESS,
        "excess recovery: what the attack brings back beyond what it gives on gold, on facts that"
        " it did not train on",
        _BACK,
        "",
        "residual",
    ),
    "general text": (
        Axis.UTILITY,
        "rise of the perplexity of general text against the original",
        _LOST,
        "perplexity",
        "utility",
    ),
    "malformed forget": (Axis.UTILITY, _LOSS, _LOST, "malformed", "fluency"),
    "form-missed generic": (Axis.UTILITY, _LOSS, _LOST, "form-missed", "fluency"),
    "seq-rep-4 forget": (Axis.UTILITY, _LOSS, _LOST, "seq-rep-4", "fluency"),
    "refusal retain": (Axis.UTILITY, _LOSS, _LOST, "refusal", "fluency"),
    "refusal neighbours": (Axis.LOCALITY, _LOSS, _LOST, "refusal", "fluency"),
} | {
    f"{metric} {split}": (axis, _LOSS, _LOST, metric, margin)
    for split, axis, margin in (
        ("retain", Axis.UTILITY, "retain"),
        ("neighbours", Axis.LOCALITY, "neighbours"),
    )
    for metric in ("probability", "key-fact", "extraction-strength")
}
"""Name of a gate, without attack and part, to axis, comparison, failure, metric, and margin."""

GATE_NAMES = tuple(_HEADS)
"""The kinds of gates. `leak`, `residual memory` and `kept records` also stand before `under
ATTACK`, `recovery` before `by ATTACK`; a part of a set follows a colon."""

RULE = (
    "The value has one-sided 95 % bounds. The gate passes when the upper bound is at most the"
    " limit, and fails when the lower bound is above it. Between the two it is inconclusive:"
    " more records would settle it. The weakest gate decides the axis."
)
"""How most gates decide; what else one goes by stands in its reason."""


def explain(name: str) -> GateText:
    """Return what a gate means.

    Args:
        name: As a report, `results.json` or a JUnit file has it: `residual memory`, `leak under
            int4`, `recovery by relearn`, `key-fact retain: rehearsed`; or its title there, such as
            `Facts said, weights rounded to 4 bits`.

    Raises:
        UsageError: There is no such gate, or no such attack.

    Example:
        >>> text = explain("leak under int4")
        >>> text.axis.value, text.margin, text.title
        ('robustness', 'residual', 'Facts said, weights rounded to 4 bits')
    """
    head, _, part = _untitled(name.strip()).partition(": ")
    if head.startswith("recovery by "):
        kind, attack = "recovery", head.removeprefix("recovery by ")
    else:
        kind, _, attack = head.partition(" under ")
    if kind not in _HEADS:
        raise _unknown(name, kind)
    axis, compares, fails, metric, margin = _HEADS[kind]
    title = SUBJECTS.get(kind, "Facts brought back by an attack")
    text = GateText(
        name=_untitled(name.strip()),
        axis=axis,
        title=f"{title} ({part})" if part else title,
        compares=compares,
        fails=fails,
        metric=metric,
        margin=margin,
    )
    return _under(text, kind, attack) if attack else text


def _under(text: GateText, kind: str, attack: str) -> GateText:
    """Return the text of a gate that judges an attack."""
    known = {*ATTEMPTS, *ATTACKS, *catalogue().attacks}
    if attack not in known:
        raise _unknown(text.name, attack, known)
    words = ATTACKS[attack].meaning if attack in ATTACKS else f"{attempt(attack).capitalize()}."
    if kind == "recovery":
        return replace(text, title=f"Facts brought back by {attempt(attack)}", attack=words)
    axis = text.axis if kind == "wanted answers" else Axis.ROBUSTNESS
    return replace(text, axis=axis, title=f"{text.title}, {attempt(attack)}", attack=words)


def _untitled(name: str) -> str:
    """Return the name of the gate that a report shows under this title; else what was given."""
    titles = {title.casefold(): gate for gate, title in SUBJECTS.items()}
    attacks = {words.casefold(): attack for attack, words in ATTEMPTS.items()}
    given = name.casefold()
    title, _, words = given.rpartition(", ")
    if given in titles:
        return titles[given]
    if title in titles and words in attacks:
        return f"{titles[title]} under {attacks[words]}"
    return name


def _unknown(name: str, given: str, known: "set[str] | tuple[str, ...]" = GATE_NAMES) -> UsageError:
    near = get_close_matches(given, sorted(known), n=1, cutoff=0.5)
    near = near or [each for each in known if given and given.lower() in each][:1]
    return UsageError(
        "unknown-gate",
        what=f"there is no gate {name!r}",
        why="gates have the names that results.json and the report show",
        fix=f"did you mean {name.replace(given, near[0])!r}?"
        if near and given
        else "`expunge explain` lists all of them",
    )
