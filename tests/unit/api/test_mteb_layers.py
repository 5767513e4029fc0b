"""Layers side by side in mteb 2, on tasks of every kind that lie in memory; the table without mteb."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from rwkv_sweep import Encoder
from rwkv_sweep.api.mteb_layers import LayerScores, TextVectors, evaluate_layers
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.metrics import cosine

SUBJECTS = ("A man", "A cat", "The bank", "My sister", "A dog", "The shop", "An old farmer", "The choir")
TOPICS = {
    "music": ("plays the guitar.", "sings a song.", "listens to the radio.", "tunes the piano."),
    "money": ("raised its rates in May.", "sold all shares.", "pays the bill.", "borrowed two million."),
    "rest": ("sleeps on the mat.", "lies in bed.", "takes a nap.", "closes both eyes."),
}
TEXTS = [
    (f"{subject} {action}", topic) for topic, actions in TOPICS.items() for action in actions for subject in SUBJECTS
]
SMALL = (
    "model=random",
    "model.tokenizer=bytes",
    "model.hidden_size=32",
    "model.num_blocks=3",
    "model.head_size=8",
    "model.intermediate_size=64",
    "model.vocab_size=256",
    "device=cpu",
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_config(*SMALL)


# --- without mteb --------------------------------------------------------------------------------------------------


def test_average_and_borda_count() -> None:
    scores = LayerScores(["1", "3", "final"], ["a", "b"], np.array([[0.9, 0.2], [0.5, 0.4], [0.5, 0.3]]))
    np.testing.assert_allclose(scores.average_L, [0.55, 0.45, 0.4])
    # Task a: layer 1 beats two, the others are equal. Task b: 3 beats two, final one.
    np.testing.assert_allclose(scores.borda_L, [2.0, 2.5, 1.5])
    lines = scores.csv().splitlines()
    assert lines[0] == "layer,a,b,average,borda"
    assert [line.split(",")[0] for line in lines[1:]] == ["3", "1", "final"], "best first"


def test_each_text_is_read_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = Encoder.encode_layers

    def watched(self: Encoder, sentences: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        read.extend(sentences)
        return real(self, sentences, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode_layers", watched)
    texts = TextVectors(encoder, [0, 2], 512, "error")
    asked = ["one", "two", "one"]
    rows = [texts.of(asked, "", row) for row in (0, 1)]
    again = texts.of(["two", "three"], "", 1)
    assert read == ["one", "two", "three"]
    expected = real(encoder, ["one", "two", "three"], [0, 2])
    np.testing.assert_allclose(np.stack(rows), expected[:, [0, 1, 0]], atol=1e-5)
    np.testing.assert_allclose(again, expected[1][[1, 2]], atol=1e-5)
    texts.of(["one"], "Question: ", 0)
    assert read[3:] == ["one"], "behind a prompt it is another text"


# --- in mteb -------------------------------------------------------------------------------------------------------


def metadata(name: str, kind: str, score: str) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name,
        dataset={"path": "none/in-memory", "revision": "1"},
        description="Made by hand.",
        reference=None,
        type=kind,
        category="t2t" if kind in ("STS", "Retrieval", "Reranking") else "t2c",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
        date=("2026-01-01", "2026-12-31"),
        domains=["Written"],
        task_subtypes=[],
        license="mit",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
    )


def kinds() -> list[Any]:
    """One task of each kind, small, with data in memory."""
    pytest.importorskip("mteb", reason="mteb is not installed")
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.classification import AbsTaskClassification
    from mteb.abstasks.clustering import AbsTaskClustering
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.sts import AbsTaskSTS

    topics = list(TOPICS)
    texts, labels = [text for text, _ in TEXTS], [topics.index(topic) for _, topic in TEXTS]
    queries = Dataset.from_list([{"id": f"q{topic}", "text": TOPICS[topic][0]} for topic in topics])
    corpus = Dataset.from_list([{"id": f"d{i}", "title": "", "text": text} for i, text in enumerate(texts[::4])])
    relevant = {
        f"q{topic}": {f"d{i}": int(label == topics.index(topic)) for i, label in enumerate(labels[::4])}
        for topic in topics
    }
    ranked = {f"q{topic}": [f"d{i}" for i in range(len(corpus))] for topic in topics}

    class Sts(AbsTaskSTS):
        metadata = metadata("MemorySTS", "STS", "cosine_spearman")

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            rows = {"sentence1": texts[:40], "sentence2": texts[1:41], "score": [float(i % 6) for i in range(40)]}
            self.dataset, self.data_loaded = DatasetDict({"test": Dataset.from_dict(rows)}), True

    class Classes(AbsTaskClassification):
        metadata = metadata("MemoryClassification", "Classification", "accuracy")
        n_experiments, samples_per_label = 2, 8

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            parts = {
                split: Dataset.from_dict({"text": texts[start::2], "label": labels[start::2]})
                for start, split in enumerate(("train", "test"))
            }
            self.dataset, self.data_loaded = DatasetDict(parts), True

    class Clusters(AbsTaskClustering):
        metadata = metadata("MemoryClustering", "Clustering", "v_measure")
        max_fraction_of_documents_to_embed = None
        n_clusters = 2

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            rows = Dataset.from_dict({"sentences": texts, "labels": labels})
            self.dataset, self.data_loaded = DatasetDict({"test": rows}), True

    class Search(AbsTaskRetrieval):
        metadata = metadata("MemoryRetrieval", "Retrieval", "ndcg_at_10")
        ranked: Any = None

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            split = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": self.ranked}
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    class Reranked(Search):
        metadata = metadata("MemoryReranking", "Reranking", "map_at_1000")

    Reranked.ranked = ranked
    return [Sts(), Classes(), Clusters(), Search(), Reranked()]


def test_all_kinds_of_tasks_by_layer() -> None:
    tasks = kinds()
    encoder = Encoder.from_config("layer=3", "device=cpu")
    scores = evaluate_layers(encoder, tasks, [1, 5, "final"])
    assert scores.layers == ["1", "5", "final"] and scores.tasks == [task.metadata.name for task in tasks]
    assert scores.scores_LN.shape == (3, 5) and np.isfinite(scores.scores_LN).all()
    classes_L, clusters_L, actual_L, reranked_L = scores.scores_LN[:, 1:].T
    assert (classes_L > 0.8).all() and (clusters_L >= 0).all() and clusters_L.max() > 0.1
    assert (np.stack([actual_L, reranked_L]) > 0.4).all(), "a third of the texts would be right at random"
    # The pairs as scored by our own path, and the whole as one layer alone gives it.
    rows = tasks[0].dataset["test"] if tasks[0].data_loaded else None
    if rows is None:
        tasks[0].load_data()
        rows = tasks[0].dataset["test"]
    own = [
        spearmanr(
            cosine(encoder.encode(rows["sentence1"][:], layer), encoder.encode(rows["sentence2"][:], layer)),
            rows["score"][:],
        ).statistic
        for layer in (1, 5, "final")
    ]
    np.testing.assert_allclose(scores.scores_LN[:, 0], own, atol=1e-4)
    alone = evaluate_layers(encoder, kinds()[3:4], 5)
    np.testing.assert_allclose(alone.scores_LN[0, 0], scores.scores_LN[1, 3], atol=1e-6)


def test_what_there_is_not_is_one_line(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mteb", reason="mteb is not installed")
    with pytest.raises(UserError, match=r"^task=NoSuchTask is none of mteb's: [^\n]*$"):
        evaluate_layers(encoder, ["NoSuchTask"])
    with pytest.raises(UserError, match=r"^evaluate_layers has no tasks"):
        evaluate_layers(encoder, [])
    task = kinds()[0]

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(type(task), "load_data", refuse)
    with pytest.raises(UserError) as caught:
        evaluate_layers(encoder, [task])
    assert str(caught.value) == (
        "task=MemorySTS: its data cannot be had (ConnectionError: Couldn't reach the hub); offline, run `hf download "
        "--repo-type dataset none/in-memory --revision 1` where there is a network, and set HF_HOME to a copy of that "
        "cache"
    )


def test_without_mteb_one_line_says_what_to_install(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mteb", None)
    with pytest.raises(UserError, match=r"^evaluate_layers needs mteb, .* pip install 'mteb>=2\.20'$"):
        evaluate_layers(encoder, ["STS12"])
