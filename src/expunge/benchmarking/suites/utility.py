"""Utility beside a suite: general knowledge, common sense and plain text.

MMLU, ARC, PIQA, COPA, OpenBookQA, HellaSwag, WinoGrande, LAMBADA, TriviaQA and WikiText-2.

Multiple choice by the likelihood of the options (sum: lm-eval's `acc`; per token: its
length-normalised form), MMLU by letter with the order of the options controlled. Questions
are turns of a conversation where the model has a chat template, so numbers differ from those
of a bare language model; compare models within a table.
"""

from collections.abc import Mapping

from expunge.benchmarking.probe_outputs import ProbeOutputs, exact, right, right_by_length
from expunge.benchmarking.suites.base import (
    Probe,
    Spec,
    Suite,
    SuiteLocation,
    records,
    wrong_release,
)
from expunge.benchmarking.suites.multiple_choice import (
    as_question,
    choice_scores,
    lettered,
    place_of,
)
from expunge.data.readers import SourceRow
from expunge.evals.results import Score
from expunge.metrics.fluency import perplexity, total_loss
from expunge.metrics.key_facts import key_fact
from expunge.metrics.memorization import extraction_strength, probability
from expunge.training.early_stopping import spread

CHOICES: Mapping[str, tuple[str, int]] = {
    "arc-challenge": ("arc_challenge.jsonl", 1172),
    "arc-easy": ("arc_easy.jsonl", 2376),
    "piqa": ("piqa.jsonl", 1838),
    "copa": ("copa.jsonl", 100),
    "openbook-qa": ("openbook_qa.jsonl", 500),
}
"""Probe: its file, and how many questions that has."""
HELLASWAG = 10_042
ENDINGS = 4
ANSWER = 16
"""Longest answer in tokens."""


def load(spec: Spec) -> Suite:
    """Read the utility sets of a folder.

    Args:
        spec: `records` evenly spaced ones of each set; all are used when it is None.

    Raises:
        InputError: A file is missing or not the published one.
    """
    place = SuiteLocation(root=spec.data, offline=spec.offline)

    def few(rows: list[SourceRow]) -> list[SourceRow]:
        return rows if spec.records is None else list(spread(rows, spec.records))

    probes = [
        Probe(
            name=name,
            records=records(name, few(place.rows(file, "", count=n)), as_question),
            options=True,
        )
        for name, (file, n) in CHOICES.items()
    ]
    mmlu = few(place.rows("mmlu_test.jsonl", "", count=14_042))
    right_at = tuple(place_of(row.value) for row in mmlu if isinstance(row.value, dict))
    probes.append(lettered("mmlu", records("mmlu", mmlu, as_question), right_at))
    endings = few(_hellaswag(place))
    probes.append(Probe(name="hellaswag", records=records("hellaswag", endings), options=True))
    gap = few(place.rows("winogrande.jsonl", "", count=1267))
    probes.append(
        Probe(name="winogrande", records=records("winogrande", gap, _winogrande), options=True)
    )
    last = few(place.rows("lambada_openai.jsonl", "", count=5153))
    probes.append(Probe(name="lambada", records=records("lambada", last, _continued), scored=True))
    trivia = few(place.rows("triviaqa_sm_sub.jsonl", "", count=3000))
    probes.append(
        Probe(name="triviaqa", records=records("triviaqa", trivia, _trivia), answer=ANSWER)
    )
    text = few(_paragraphs(place))
    probes.append(Probe(name="wikitext-2", records=records("wikitext-2", text), scored=True))
    return Suite(name="utility", probes=tuple(probes), numbers=numbers)


def numbers(outputs: ProbeOutputs) -> list[Score]:
    """Return the accuracy on every set, and perplexity per model token of WikiText-2."""
    found: list[Score] = []
    for probe in (*CHOICES, "hellaswag", "winogrande"):
        for metric, of in (("choice-accuracy", right), ("choice-by-length", right_by_length)):
            found.append(outputs.mean(metric, probe, outputs.weighed(probe, of), higher=True))
    found += choice_scores(outputs, "mmlu", higher=True)
    whole = {n: float(v == 1) for n, v in outputs.scored("lambada", extraction_strength).items()}
    found.append(outputs.mean("greedy-match", "lambada", whole, higher=True))
    likely = outputs.scored("lambada", probability)
    found.append(outputs.mean("probability", "lambada", likely, higher=True))
    known = outputs.answered("triviaqa", key_fact)
    found.append(outputs.mean("key-fact", "triviaqa", known, higher=True))
    losses = outputs.scored("wikitext-2", total_loss)
    counts = [float(outputs.scores["wikitext-2"][name].content) for name in losses]
    value = perplexity(list(losses.values()), counts)
    found.append(exact("perplexity", "wikitext-2", value, n=len(losses), higher=False))
    return found


def _hellaswag(place: SuiteLocation) -> list[SourceRow]:
    """Six lines each: activity and context, place of the right ending, four endings."""
    (row,) = place.rows("hellaswag_val_full.txt", "", count=1)
    text = row.value["text"] if isinstance(row.value, dict) else ""
    lines = str(text).rstrip("\n").split("\n")
    size = 2 + ENDINGS
    tasks = [lines[start : start + size] for start in range(0, len(lines), size)]
    if len(tasks) != HELLASWAG:
        raise wrong_release(row.source, f"{len(tasks)} tasks, {HELLASWAG} were published")
    return [
        SourceRow(
            {"question": task[0], "choices": task[2:], "answer": int(task[1])},
            f"{row.source}:{1 + size * index}",
        )
        for index, task in enumerate(tasks)
    ]


def _winogrande(fields: Mapping[str, object]) -> dict[str, object]:
    """The same ending after either name: as two readings of one sentence."""
    options, ending = fields["context_options"], fields["continuation"]
    assert isinstance(options, list)
    return {
        "question": "Which is right?",
        "choices": [f"{option} {ending}" for option in options],
        "answer": fields["gold"],
    }


def _continued(fields: Mapping[str, object]) -> dict[str, object]:
    return {"prompt": fields["context"], "completion": fields["continuation"]}


def _trivia(fields: Mapping[str, object]) -> dict[str, object]:
    question = str(fields["context"]).removeprefix("Question: ").removesuffix("\nAnswer:")
    aliases = fields["aliases"]
    assert isinstance(aliases, list)
    return {
        "question": question,
        "answer": fields["answer"],
        "key_answers": [fields["answer"], *aliases],
    }


def _paragraphs(place: SuiteLocation) -> list[SourceRow]:
    (row,) = place.rows("wikitext2_test.txt", "", count=1)
    text = str(row.value["text"] if isinstance(row.value, dict) else "")
    lines = enumerate(text.split("\n"), start=1)
    return [
        SourceRow({"text": line}, f"{row.source}:{number}")
        for number, line in lines
        if len(line.split()) >= 20
    ]
