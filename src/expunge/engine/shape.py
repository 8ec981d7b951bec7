"""What a method may know of a model."""

from expunge.methods.terms import Shape
from expunge.model.network import Network


def shape_of(network: Network) -> Shape:
    """Return what a method may know of a model."""
    width = network.model.config.get_text_config().hidden_size
    return Shape(layers=len(network.layers), width=width, vocabulary=network.vocabulary)
