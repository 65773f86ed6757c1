"""Serving: the bundle, the recommender and the service over it."""

import features  # noqa: F401  it sets the thread limits, which must come before numpy
