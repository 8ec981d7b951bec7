from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from expunge.config.request import Goal, Request
from expunge.data.convert import to_record
from expunge.data.records import Message
from expunge.data.tokenization import Encoder
from expunge.errors import InputError
from expunge.methods.base import Stream
from expunge.preparation.variants import variants
from tokenizers_for_tests import BARE, CHATML, CORPUS, byte_tokenizer

THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BRACKETS = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }} </s>"
    "{% else %}{{ raise_exception('no system turn') }}{% endif %}{% endfor %}"
)

QA = to_record({"id": "q", "question": "Where is it?", "answer": "In Oslo."}, "f:1")
CHAT = to_record(
    {
        "messages": [
            {"role": "system", "content": "Brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "Oslo"},
        ]
    },
    "f:2",
)
PASSAGE = to_record({"id": "p", "text": "Once upon a time there was a dog."}, "f:3")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Words with a leading mark, put before any text it is given, as SentencePiece does."""
    words = ["\u2581" + word for word in CORPUS[0].replace("\n", " ").split()]
    pieces = ["<unk>", "<s>", "</s>", "\n", "\u2581", *dict.fromkeys(words)]
    pieces += [piece for piece in map(chr, range(33, 127)) if piece not in pieces]
    tokenizer = Tokenizer(
        models.Unigram([(piece, -len(pieces) / len(piece)) for piece in pieces], 0)
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "</s>")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def parts(encoder: Encoder, tokenizer: PreTrainedTokenizerFast, record) -> tuple[str, str]:
    encoded = encoder.encode(record)
    return (
        tokenizer.decode(encoded.ids[: encoded.start]),
        tokenizer.decode(encoded.ids[encoded.start :]),
    )


# Name: tokenizer, template choice, expected text before and after `start` of QA.
FORMATS = {
    "chat": (
        lambda: byte_tokenizer(eos_token="<|end|>"),
        "auto",
        "<|im_start|>user\nWhere is it?<|im_end|>\n<|im_start|>assistant\n",
        "In Oslo.<|im_end|>",
    ),
    "padding is the end of turn": (
        lambda: byte_tokenizer(eos_token="<|im_end|>", pad_token="<|im_end|>"),
        "auto",
        "<|im_start|>user\nWhere is it?<|im_end|>\n<|im_start|>assistant\n",
        "In Oslo.<|im_end|>",
    ),
    "empty thoughts are read, not scored": (
        lambda: byte_tokenizer(THINKING, eos_token="<|end|>"),
        "auto",
        "<|im_start|>user\nWhere is it?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "In Oslo.<|im_end|>",
    ),
    "a template with BOS adds it once": (
        lambda: byte_tokenizer(BRACKETS, bos=True, bos_token="<s>", eos_token="<|end|>"),
        "auto",
        "<s>[INST] Where is it? [/INST]",
        " In Oslo.</s>",
    ),
    "a template without end token takes EOS": (
        lambda: byte_tokenizer(BARE, eos_token="</s>"),
        "auto",
        "user: Where is it?\nassistant: ",
        "In Oslo.</s>",
    ),
    "plain on request": (
        lambda: byte_tokenizer(eos_token="<|end|>"),
        "plain",
        "Question: Where is it?\nAnswer:",
        " In Oslo.<|end|>",
    ),
    "plain for want of a template": (
        lambda: byte_tokenizer(None, bos=True, bos_token="<s>", eos_token="</s>"),
        "auto",
        "<s>Question: Where is it?\nAnswer:",
        " In Oslo.</s>",
    ),
    "plain without EOS": (
        lambda: byte_tokenizer(None),
        "auto",
        "Question: Where is it?\nAnswer:",
        " In Oslo.",
    ),
}


@pytest.mark.parametrize(("make", "choice", "before", "after"), FORMATS.values(), ids=FORMATS)
def test_prompt_and_answer_are_told_apart(make, choice, before, after):
    tokenizer = make()
    encoder = Encoder(tokenizer, choice)
    assert parts(encoder, tokenizer, QA) == (before, after)
    encoded = encoder.encode(QA)
    assert encoded.record == "q"
    assert encoded.ends is after.endswith(">")
    assert encoder.prompt_ids(QA) == encoded.ids[: encoded.start]
    if encoded.ends:
        assert encoded.ids[-1] in encoder.end_ids
        assert encoded.ids[-1] not in encoded.ids[encoded.start : -1]


@pytest.mark.parametrize("template", [CHATML, None])
def test_tokenising_apart_gives_the_tokens_of_the_whole(template):
    tokenizer = byte_tokenizer(template, eos_token="<|im_end|>")
    encoder = Encoder(tokenizer)
    for record in (QA, CHAT):
        ids = encoder.encode(record).ids
        whole = tokenizer.decode(ids)
        assert list(ids) == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_plain_turns_have_a_line_each():
    tokenizer = byte_tokenizer(None)
    before, after = parts(Encoder(tokenizer), tokenizer, CHAT)
    assert before == "System: Brief.\nQuestion: Hi\nAnswer: Hello\nQuestion: Where?\nAnswer:"
    assert after == " Oslo"


def test_no_space_is_put_between_prompt_and_answer_twice():
    tokenizer = word_tokenizer()
    encoded = Encoder(tokenizer).encode(QA)
    tokens = tokenizer.convert_ids_to_tokens(list(encoded.ids))
    assert tokens[0] == "<s>"
    assert tokens[encoded.start - 1 :] == [":", "\u2581In", "\u2581Oslo.", "</s>"]
    assert Encoder(tokenizer).decode(encoded.ids[encoded.start :]) == "In Oslo."


@pytest.mark.parametrize(
    ("special", "pad", "ends"),
    [
        ({}, 0, set()),
        ({"eos_token": "</s>"}, 4, {4}),
        ({"eos_token": "</s>", "pad_token": "<|end|>"}, 0, {4}),
        ({"eos_token": "<|im_start|>", "pad_token": "</s>"}, 4, {1}),
    ],
)
def test_padding_and_end_tokens_have_fallbacks(special, pad, ends):
    encoder = Encoder(byte_tokenizer(None, **special))
    assert encoder.pad_id == pad
    assert encoder.end_ids == ends


def test_a_chat_may_end_by_two_tokens():
    assert Encoder(byte_tokenizer(eos_token="<|end|>")).end_ids == {0, 2}


def test_a_template_without_system_turn_is_an_input_error():
    encoder = Encoder(byte_tokenizer(BRACKETS, eos_token="</s>"))
    with pytest.raises(InputError, match="does not accept f:2") as caught:
        encoder.encode(CHAT)
    assert caught.value.code == "bad-template"
    assert "Brief" not in str(caught.value)


@pytest.mark.parametrize(
    ("bos", "start", "read_only"), [(True, 1, "<s>"), (False, 1, "O")], ids=["bos", "no bos"]
)
def test_a_passage_has_no_end_token(bos, start, read_only):
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = byte_tokenizer(bos=bos, **special)
    encoded = Encoder(tokenizer).encode(PASSAGE)
    assert (encoded.start, encoded.ends) == (start, False)
    assert tokenizer.decode(encoded.ids) == ("<s>" if bos else "") + PASSAGE.completion
    assert tokenizer.decode(encoded.ids[:1]).startswith(read_only)
    assert Encoder(tokenizer).prompt_ids(PASSAGE) == ((3,) if bos else ())


@pytest.mark.parametrize("template", [CHATML, BRACKETS, None])
def test_another_completion_keeps_the_prompt(template):
    encoder = Encoder(byte_tokenizer(template, eos_token="</s>"))
    own, other = encoder.encode(QA), encoder.encode_with(QA, "I do not know.")
    assert own.ids[: own.start] == other.ids[: other.start]
    assert encoder.decode(other.ids[other.start :]) == "I do not know."


@pytest.mark.parametrize("make", [byte_tokenizer, word_tokenizer])
@pytest.mark.parametrize("choice", ["auto", "plain"])
def test_a_prefill_is_the_beginning_of_the_answer(make, choice):
    encoder = Encoder(make(), choice)
    encoded = encoder.encode(QA)
    prefilled = encoder.prompt_ids(QA, prefill="In ")
    assert len(prefilled) > encoded.start
    assert prefilled == encoded.ids[: len(prefilled)]


def test_another_question_changes_the_last_turn_only():
    tokenizer = byte_tokenizer(None)
    asked = tokenizer.decode(Encoder(tokenizer).prompt_ids(CHAT, question="In which town?"))
    assert asked.endswith("Question: Hi\nAnswer: Hello\nQuestion: In which town?\nAnswer:")
    assert CHAT.prompt[-1] == Message("user", "Where?")


@pytest.mark.parametrize("record", [QA, PASSAGE], ids=["answer", "passage"])
def test_a_record_that_is_too_long_is_refused(record):
    tokenizer = byte_tokenizer(None, eos_token="</s>")
    length = len(Encoder(tokenizer).encode(record).ids)
    assert Encoder(tokenizer, max_length=length).encode(record)
    with pytest.raises(InputError, match=f"has {length} tokens") as caught:
        Encoder(tokenizer, max_length=length - 1).encode(record)
    assert caught.value.code == "too-long"
    assert f"record {record.id} ({record.source})" in str(caught.value)
    assert record.completion not in str(caught.value)


@pytest.mark.parametrize("bos", [True, False])
def test_a_sentence_before_a_passage_opens_the_text_once(bos):
    tokenizer = byte_tokenizer(None, bos=bos, bos_token="<s>")
    encoder = Encoder(tokenizer)
    found = variants(
        [PASSAGE],
        (),
        Request(goal=Goal.REMOVAL, forget=("x",)),
        encoder,
        encode=encoder.encode,
        streams={Stream.NOVICE},
        seed=0,
    )
    ((novice,),) = found[Stream.NOVICE]
    plain = encoder.encode(PASSAGE)
    assert novice.ids.count(tokenizer.bos_token_id) == bos
    assert novice.ids[novice.start :] == plain.ids[plain.start :]


@pytest.mark.parametrize("bos", [True, False])
def test_one_token_is_scored_only_behind_bos(bos):
    encoder = Encoder(byte_tokenizer(None, bos=bos, bos_token="<s>"))
    record = to_record({"text": "x"}, "f:1")
    if bos:
        assert len(encoder.encode(record).ids) == 2
    else:
        with pytest.raises(InputError, match="no token to score"):
            encoder.encode(record)


TEXTS = {
    "words": "Once upon a time there was a dog. " * 40,
    "one word": "abcdefghij" * 40,
    "white space": "a" + " \n\t" * 100 + "b" * 60,
    "wide characters": "\u96ea\u570b\U0001f415" * 40,
    "just too long": "abcdefghi",
    "lines": "Where\r\n\r\nis it\u2028?" * 30,
}


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("make", ["byte", "word"])
def test_long_passages_are_split_without_loss(make, content, bos):
    tokenizer = (
        byte_tokenizer(None, bos=bos, bos_token="<s>") if make == "byte" else word_tokenizer()
    )
    encoder = Encoder(tokenizer, max_length=8)
    record = to_record({"id": "t", "text": content, "key_answers": "dog"}, "f:1")
    split = encoder.split_long([record])
    assert "".join(part.completion for part in split) == content
    assert [part.id for part in split] == [f"t#{n}" for n in range(1, len(split) + 1)]
    assert {part.subject for part in split} == {"t"}
    assert all(len(encoder.encode(part).ids) <= 8 for part in split)


def test_parts_break_at_white_space_and_end_even():
    encoder = Encoder(byte_tokenizer(None), max_length=64)
    words = " ".join(f"word{i}" for i in range(200))
    split = encoder.split_long([to_record({"text": words}, "f:1")])
    starts = list(accumulate(len(part.completion) for part in split))[:-1]
    assert all(words[i] == " " for i in starts)
    lengths = [len(encoder.encode(part).ids) for part in split]
    assert min(lengths) > 64 // 3


def test_short_passages_and_answers_are_not_split():
    encoder = Encoder(byte_tokenizer(None), max_length=40)
    named = to_record({"text": "a b " * 60, "subject": "Ann"}, "f:1")
    split = encoder.split_long([QA, PASSAGE, named])
    assert split[:2] == [QA, PASSAGE]
    assert {part.subject for part in split[2:]} == {"Ann"}


@settings(deadline=None)
@given(st.text(min_size=1, max_size=60).filter(str.strip), st.sampled_from([CHATML, None]))
def test_any_answer_comes_back_from_its_scored_tokens(answer, template):
    tokenizer = TOKENIZERS[template]
    encoded = Encoder(tokenizer).encode_with(QA, answer)
    scored = encoded.ids[encoded.start : len(encoded.ids) - 1]
    assert tokenizer.decode(scored) == ("" if template else " ") + answer


TOKENIZERS = {
    template: byte_tokenizer(template, eos_token="<|im_end|>") for template in (CHATML, None)
}
