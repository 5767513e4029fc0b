"""Small tasks of `mteb`, one of each kind, with data in memory; and the command with these among mteb's own."""

from __future__ import annotations

from typing import Any

import pytest

SUBJECTS = ("A man", "A cat", "The bank", "My sister", "A dog", "The shop", "An old farmer", "The choir")
TOPICS = {
    "music": ("plays the guitar.", "sings a song.", "listens to the radio.", "tunes the piano."),
    "money": ("raised its rates in May.", "sold all shares.", "pays the bill.", "borrowed two million."),
    "rest": ("sleeps on the mat.", "lies in bed.", "takes a nap.", "closes both eyes."),
}
TEXTS = [
    (f"{subject} {action}", topic) for topic, actions in TOPICS.items() for action in actions for subject in SUBJECTS
]


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


def run_command() -> None:
    """`python -m rwkv_sweep` with the arguments of this process."""
    import runpy

    import mteb

    tasks, real = {task.metadata.name: task for task in kinds()}, mteb.get_task
    mteb.get_task = lambda name, *args, **kwargs: tasks.get(name) or real(name, *args, **kwargs)
    runpy.run_module("rwkv_sweep", run_name="__main__", alter_sys=True)
