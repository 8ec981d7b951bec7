"""Applications as recipes: planted data, a model that has the problem, a request, acceptance."""
