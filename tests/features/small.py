"""A catalogue of hand-written songs: what is not said is absent."""

import pandas as pd

from features.catalogue import Catalogue, catalogue
from features.columns import Song, SongRow


def frame(*rows: dict) -> pd.DataFrame:
    """Return one row a song, None for whatever a row does not say."""
    return pd.DataFrame([dict.fromkeys((*Song.ORDER, *SongRow.STATS)) | row for row in rows])


def songs(*rows: dict) -> Catalogue:
    """Return the catalogue of `frame`."""
    return catalogue(frame(*rows))
