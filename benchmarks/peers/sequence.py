"""SASRec (Kang and McAuley 2018) as RecTools has it, on the CPU."""

import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from benchmarks.peers.data import Plays, Query
from benchmarks.peers.ranking import DEPTH, Tops, padded


def trainer(epochs: int) -> Trainer:
    """Return a trainer that writes nothing."""
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tempfile.gettempdir(),
    )


@dataclass
class SasRec:
    """Self-attention over the songs of a session, or of a listener's whole history (`unit`).

    At the question it reads the session, topped up from the history to `fill` songs. The loss
    `sampled_softmax` is over the answer and `negatives` songs drawn evenly, anew for each place;
    `softmax`, over all songs, takes ten times as long here.
    """

    fill: int = 5
    unit: str = "sessions"
    factors: int = 64
    blocks: int = 1
    dropout: float = 0.1
    length: int = 10
    learning_rate: float = 0.003
    epochs: int = 20
    loss: str = "sampled_softmax"
    negatives: int = 32
    seed: int = 7
    model_: Any = field(init=False, repr=False)
    known_: Any = field(init=False, repr=False)

    def fit(self, plays: Plays) -> "SasRec":
        """Train on the plays' sequences."""
        torch.set_num_threads(1)
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        seed_everything(self.seed, verbose=False)
        row = plays.session if self.unit == "sessions" else plays.user
        # Of plays at the same second the order is that of the sessions' rows.
        place = np.argsort(np.argsort(plays.ts, kind="stable"), kind="stable")
        data = dataset(row, plays.song, place)
        self.model_ = SASRecModel(
            n_blocks=self.blocks,
            n_heads=2,
            n_factors=self.factors,
            dropout_rate=self.dropout,
            session_max_len=self.length,
            lr=self.learning_rate,
            batch_size=128,
            epochs=self.epochs,
            loss=self.loss,
            n_negatives=self.negatives,
            recommend_torch_device="cpu",
            get_trainer_func=trainer,
            get_trainer_func_kwargs={"epochs": self.epochs},
        )
        quietly(lambda: self.model_.fit(data))
        # Songs that only sequences of one song hold are left out of the training.
        self.known_ = self.model_.data_preparator.get_known_item_ids()
        return self

    def tops(self, queries: Sequence[Query]) -> Tops:
        """Return the best songs after each context; none where it holds no song known."""
        contexts = [query.context(self.fill)[-self.length :] for query in queries]
        contexts = [songs[np.isin(songs, self.known_)] for songs in contexts]
        row = np.repeat(np.arange(len(queries)), [len(songs) for songs in contexts])
        data = dataset(row, np.concatenate(contexts), np.arange(len(row)))
        asked = np.unique(row)
        found = quietly(lambda: self.model_.recommend(asked, data, DEPTH, filter_viewed=False))
        songs = np.full((len(queries), DEPTH), -1, dtype=np.int64)
        scores = np.full((len(queries), DEPTH), np.nan)
        at = found[Columns.User].to_numpy(), found[Columns.Rank].to_numpy() - 1
        songs[at], scores[at] = found[Columns.Item], found[Columns.Score]
        return padded(songs, scores)


def dataset(row: Any, song: Any, place: Any) -> Dataset:
    """Return interactions in order of `place` as RecTools reads them."""
    frame = pd.DataFrame(
        {
            Columns.User: row,
            Columns.Item: song,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(np.asarray(place), unit="s"),
        }
    )
    return Dataset.construct(frame)


def quietly(work: Any) -> Any:
    """Return what `work` returns, without the libraries' advice on loaders and cold rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()
