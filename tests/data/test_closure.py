"""The forget closure: what was made from a record goes with it."""

import pytest

from expunge.data.closure import closure_of, require_unstated
from expunge.data.convert import to_record
from expunge.errors import InputError

LONG = " ".join(f"word{i}" for i in range(40))


def records(*rows):
    return tuple(to_record(row, f"data:{i}") for i, row in enumerate(rows))


A = {"id": "a", "prompt": "Where does Ann live?", "completion": "Oslo"}
B = {"id": "b", "prompt": "Where does Bob live?", "completion": "Rome"}


def derived(name, parent, **more):
    return {
        "id": name,
        "prompt": f"{name}?",
        "completion": f"{name} {name}",
        "parent": parent,
        **more,
    }


@pytest.mark.parametrize(
    ("trained", "erase", "named", "found"),
    [
        ((A, B), (A,), {0}, set()),
        ((A, B, derived("c", "a")), (A,), {0}, {2}),
        ((derived("d", ["x", "c"]), derived("c", "a"), A), (A,), {2}, {0, 1}),
        ((A, B, {**A, "id": "e", "prompt": "Where does Ann live, please?"}), (A,), {0}, {2}),
        (({"id": "t", "text": f"{LONG} end"}, B), ({"id": "u", "text": LONG},), set(), {0}),
        # a copy's own children go as well
        (
            (A, {**A, "id": "e", "prompt": "where does ann live"}, derived("f", "e")),
            (A,),
            {0},
            {1, 2},
        ),
        # the id of what is erased counts where the data use it for nothing else
        ((B, derived("c", "gone")), ({**A, "id": "gone"},), set(), {1}),
        # files count from 1: the 1 of one is not that of the other
        (({**A, "id": "1"}, {**B, "id": "2"}, derived("c", 2)), ({**A, "id": "2"},), {0}, set()),
        ((A, B, derived("c", 7)), (A,), {0}, set()),
    ],
)
def test_closure(trained, erase, named, found):
    closure = closure_of(records(*erase), records(*trained))
    assert closure.named == named
    assert closure.derived == found
    assert closure.all == named | found


def test_what_was_never_trained_is_refused():
    with pytest.raises(InputError) as caught:
        closure_of(records(B), records(A))
    assert caught.value.code == "never-trained"
    assert "Rome" not in str(caught.value)


@pytest.mark.parametrize(
    ("kept", "refused"),
    [
        ({"text": "Ann moved to Oslo in May."}, True),
        ({"text": "Oslo is a city."}, False),
        ({"text": "Ann is a baker."}, False),
    ],
)
def test_kept_records_must_not_state_what_is_erased(kept, refused):
    erased = records({**A, "subject": "Ann", "key_answers": ["Oslo"]})
    if not refused:
        require_unstated(erased, records(kept))
        return
    with pytest.raises(InputError) as caught:
        require_unstated(erased, records(kept))
    assert caught.value.code == "kept-states-erased"
    assert "Oslo" not in str(caught.value)
