"""Methods of an encoder that follow from `encode`, under the names that sentence-transformers and mteb look for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from rwkv_sweep.api import similarity
from rwkv_sweep.api.inputs import arguments_of, refuse_unknown


class SentenceMethods(ABC):
    """Queries, documents, similarities."""

    _dimension: int

    @abstractmethod
    def encode(self, sentences: Any, layers: Any = None, **arguments: Any) -> Any:
        """One vector a sentence."""

    def get_sentence_embedding_dimension(self) -> int:
        """Length of the vectors that `encode` gives for the configured layers."""
        return self._dimension

    def get_embedding_dimension(self) -> int:
        """As `get_sentence_embedding_dimension`."""
        return self.get_sentence_embedding_dimension()

    def encode_query(self, sentences: Any, layers: Any = None, **arguments: Any) -> Any:
        """As `encode`, with the prompt named `query`, where there is one and no other is given."""
        return self._encode_as("query", sentences, layers, arguments)

    def encode_document(self, sentences: Any, layers: Any = None, **arguments: Any) -> Any:
        """As `encode`, with the prompt named `document`, `passage` or `corpus`, where there is one and no other is
        given."""
        return self._encode_as("document", sentences, layers, arguments)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """See `rwkv_sweep.api.similarity.similarity`: cosines [A, B]."""
        return similarity.similarity(embeddings1, embeddings2, packed=self._packed)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """See `rwkv_sweep.api.similarity.similarity_pairwise`: cosines [A]."""
        return similarity.similarity_pairwise(embeddings1, embeddings2, packed=self._packed)

    @property
    def _packed(self) -> int:
        """Length of vectors of bits."""
        return -(-self.get_sentence_embedding_dimension() // 8)

    def _encode_as(self, kind: str, sentences: Any, layers: Any, arguments: dict[str, Any]) -> Any:
        known = arguments_of(type(self).encode)
        refuse_unknown(f"encode_{kind}", [name for name in arguments if name not in known], known)
        return self.encode(sentences, layers, **{"prompt_type": kind, **arguments})
