"""Fixtures that several files share."""

import random

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def no_key_of_the_user(tmp_path_factory):
    """Whoever runs the tests may have a key: their runs would be signed with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_SIGNING_KEY", str(tmp_path_factory.mktemp("keys") / "signing-key"))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk():
    """Files of tests need not outlive a power cut; a run writes two hundred."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The models and data of `world.make`, taught once."""
    import tiny_world as worlds  # loads torch: not for the tests that never ask for it

    return worlds.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def mixture(tmp_path_factory):
    """The same world, whose models are mixtures of experts."""
    import tiny
    import tiny_world as worlds

    return worlds.make(tmp_path_factory.mktemp("mixture"), tiny.mixtral)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """An empty working folder; caches and the operator's key lie in it, too."""
    monkeypatch.setenv("EXPUNGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EXPUNGE_KEY_FILE", str(tmp_path / "operator.key"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def same_draws():
    """lm-eval seeds the random numbers of everybody; the other tests get theirs back."""
    import torch  # not for the tests that never ask for it

    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(pytorch)
