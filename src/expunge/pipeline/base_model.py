"""The model from which an original was trained, where it can be known."""

from collections.abc import Callable, Mapping

from torch import Tensor

from expunge.config.settings import Settings
from expunge.errors import InputError
from expunge.models.loading import load
from expunge.models.reference import split_reference
from expunge.models.transformer import Network
from expunge.pipeline.recipe import base_of_recipe
from expunge.preparation.prepare import Prepared
from expunge.provenance.training_facts import read_trained_run, training_of


def base_of_original(settings: Settings) -> str | None:
    """Return the reference of the base model: by training, by recipe, or beneath an adapter.

    Raises:
        InputError: A training or a recipe that is named cannot be read.
    """
    run = training_of(settings.model)
    if run is not None:
        return read_trained_run(run).settings.model
    if settings.recipe is not None:
        return base_of_recipe(settings)
    base, adapter = split_reference(settings.model)
    return None if adapter is None else base


def base_network(prepared: Prepared) -> Network | None:
    """Return the network of the base model; None where it is not known.

    Raises:
        InputError: A training or a recipe that is named cannot be read.
    """
    reference = base_of_original(prepared.settings)
    return None if reference is None else load(reference, prepared.source).network


def base_weights(
    prepared: Prepared, original: Network
) -> Callable[[], Mapping[str, Tensor]] | None:
    """Return what loads the weights of the base model; None where it is not known.

    Args:
        prepared: The inputs of the run.
        original: The network of the original, whose shapes the base must have.
    """
    reference = base_of_original(prepared.settings)
    if reference is None:
        return None

    def weights() -> Mapping[str, Tensor]:
        base = load(reference, prepared.source).network.model.state_dict()
        wanted = {name: tensor.shape for name, tensor in original.model.state_dict().items()}
        if {name: tensor.shape for name, tensor in base.items()} != wanted:
            raise InputError(
                "base-differs",
                what=f"{reference} is no base of {prepared.settings.model}",
                why="its tensors have other names or shapes",
                fix="name the model that the training started from",
            )
        return base

    return weights
