"""Training: phases, factors, generators, ranker, evaluation, bundles."""

import features  # noqa: F401  it sets the thread limits, which must come before numpy
