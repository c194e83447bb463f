"""Every registered vocabulary keeps the contract of its kind."""

import pytest

from tunewright import catalog
from tunewright.models.vocabulary import LearnedEmbeddingPropagation
from tunewright.testing.effects import usual
from tunewright.testing.vocabularies import VocabularyContract


class TestEveryVocabulary(VocabularyContract):
    @pytest.fixture(params=catalog.names("vocabulary"))
    def method(self, request):
        return usual(catalog.find("vocabulary", request.param))


class TestPropagation(VocabularyContract):
    @pytest.fixture(params=["conversion", "overlap", "direct"])
    def method(self, request):
        return LearnedEmbeddingPropagation(donor="donor", base="base", mode=request.param)
