"""Names of the tests under which evidence beyond one pass and one answer a record is stored.

Names of the tests under which it is stored:

    perturbed     choices  the true answer (reworded where given) and false ones
    lowercase     scores   the answer in lower case
    recall        scores   the record after others that no model saw
    gradient      layers   norm of the gradient of each weight tensor
    rarity        layers   -log frequency of each token in general text, 0 where it is repeated
    divergence    layers   KL from the original at each scored position
    lens          layers   log-probability of the fact, read after each block by the original
    patched       layers   the same when this model's states replace the original's there
    weights       layers   relative change of each weight tensor
"""

PERTURBED, LOWERCASE, RECALL = "perturbed", "lowercase", "recall"
GRADIENT, RARITY, DIVERGENCE = "gradient", "rarity", "divergence"
LENS, PATCHED, WEIGHTS = "lens", "patched", "weights"

READINGS = (LOWERCASE, RECALL)
"""Tests whose scores are of a changed text: no attack, and not comparable with plain scores."""
