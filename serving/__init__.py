"""Serving: the bundle, the recommender and the service over it."""
