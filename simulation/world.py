"""A whole made-up world out of a size and a seed."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features.columns import Song
from simulation.listeners import Listeners, draw_listeners
from simulation.model import Coefficients, Model
from simulation.sizes import Size
from simulation.songs import Songs, draw_songs, genre_centres


@dataclass(frozen=True)
class World:
    """Listeners and songs, with what the simulation knows of them and what the world sees."""

    size: Size
    listeners: Listeners
    songs: Songs
    model: Model
    users_table: pa.Table
    songs_table: pa.Table


def build_world(size: Size, seed: int) -> World:
    """Draw songs, then listeners, and join them to the probability model."""
    of_songs, of_listeners = (np.random.default_rng([seed, part]) for part in range(2))
    centres = genre_centres(of_songs)
    songs, songs_table = draw_songs(size, centres, of_songs)
    first = np.unique(songs.artist, return_index=True)[1]
    credited = songs_table[Song.ARTISTS].to_pylist()
    artist_names = [credited[row][0] for row in first]
    listeners, users_table = draw_listeners(size, songs, centres, artist_names, of_listeners)
    model = Model(
        seed=seed,
        coefficients=Coefficients(),
        taste=listeners.taste,
        language_liking=listeners.language_liking,
        birth_year=listeners.birth_year,
        favourites=listeners.favourites,
        vector=songs.vector,
        language=songs.language,
        artist=songs.artist,
        year=songs.year,
        popularity=songs.popularity,
        audio=songs.audio,
        occasion=songs.occasion,
    )
    return World(size, listeners, songs, model, users_table, songs_table)
