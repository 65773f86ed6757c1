"""Training: phases, factors, generators, ranker, evaluation, bundles."""
