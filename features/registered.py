"""What is registered with Feast: the definitions of `features/repo` and what follows from them."""

import runpy
from typing import Final

import pyarrow as pa
from feast import Entity, FeatureService, FeatureStore, FeatureView, RepoConfig
from feast.type_map import feast_value_type_to_pa
from feast.types import Array

from features.columns import FEATURE_SERVICE, SONG_VIEWS, USER_VIEWS, Song, User, UserRow
from features.online import REPO

# The features of each view, by whose they are.
VIEWS: Final = {User.ID: USER_VIEWS, Song.ID: SONG_VIEWS}


def register(config: RepoConfig) -> list[str]:
    """Register the definitions in a store, and return the names of what is registered."""
    # Run, not imported: the definitions name files under the data folder of this moment.
    named = runpy.run_path(str(REPO / "definitions.py")).values()
    kinds = (Entity, FeatureView, FeatureService)
    objects = [thing for thing in named if isinstance(thing, kinds)]
    FeatureStore(config=config).apply(objects)
    return [thing.name for thing in objects]


def references(store: FeatureStore, owner: str) -> tuple[list[str], list[str]]:
    """Return `view:feature` for the service's features of an owner, and the names of the lists."""
    service = store.get_feature_service(FEATURE_SERVICE)
    views = [view for view in service.feature_view_projections if view.name in VIEWS[owner]]
    features = [(view.name, feature) for view in views for feature in view.features]
    lists = [feature.name for _, feature in features if isinstance(feature.dtype, Array)]
    return [f"{view}:{feature.name}" for view, feature in features], lists


def view_schemas() -> dict[str, pa.Schema]:
    """Return the columns that each feature view's Parquet file must have."""
    named = runpy.run_path(str(REPO / "definitions.py")).values()
    found = {}
    owners = {view: owner for owner, views in VIEWS.items() for view in views}
    for view in (thing for thing in named if isinstance(thing, FeatureView)):
        kinds = [
            (feature.name, feast_value_type_to_pa(feature.dtype.to_value_type()))
            for feature in view.features
        ]
        stamp = (UserRow.TS, pa.timestamp("us", "UTC"))
        found[view.name] = pa.schema([(owners[view.name], pa.string()), stamp, *kinds])
    return found
