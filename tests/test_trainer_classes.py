"""Which trainer a class of one's own gets."""

import pytest
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.model.knowledge_aware_recommender import cke, ktup, mkr
from recbole.trainer import KGTrainer, MKRTrainer

from recbole_slif.quick_start import run
from recbole_slif.trainer import SlifTrainer, trainer_class
from tests.running import settings
from tests.test_trainer import trainer_of


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class OwnCKE(cke.CKE):
    """Learns pairs and triples by one loss, without hooks."""


class OwnGeneral(GeneralRecommender):
    """Has no triples to learn."""


@pytest.mark.parametrize("model", ["Pop", "ItemKNN"])
def test_what_is_counted_in_one_epoch_is_validated_after_it(tmp_path, model):
    found = run(model, "toy", overrides=settings(tmp_path, eval_step=2, embedding_size=...))
    assert found.best_epoch == 0 and found.valid and found.test


def test_a_class_derived_from_recboles_is_trained_as_that_is(tmp_path):
    trainer, data = trainer_of(tmp_path, OwnCKE, epochs=1)
    assert isinstance(trainer, KGTrainer)
    trainer.fit(data.train_data, verbose=False)
    assert len(trainer.history[0]["loss"]) == 3
    for parent, wanted in ((ktup.KTUP, KGTrainer), (mkr.MKR, MKRTrainer)):
        own = type("Own", (parent,), {})
        config = {"MODEL_TYPE": parent.type, "model": "Own"}
        assert issubclass(trainer_class(config, own.__new__(own)), wanted)
    assert (
        trainer_class({"MODEL_TYPE": OwnGeneral.type}, OwnGeneral.__new__(OwnGeneral))
        is SlifTrainer
    )
