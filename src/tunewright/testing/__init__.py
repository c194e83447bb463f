"""The contracts every method is held to, one per kind, and the tiny models and data they run on.

A contract is a class of tests. Inherit it, give it a fixture `method` that returns an instance of the method, and
pytest holds the method to everything its kind promises:

    class TestMine(AdapterContract):
        @pytest.fixture
        def method(self) -> Adapter:
            return Mine(rank=4)

Nothing here imports pytest: each test is a plain function of `method` that raises `AssertionError`.
"""

CONTRACTS = {
    "adapter": "adapters.AdapterContract",
    "objective": "objectives.ObjectiveContract",
    "optimizer": "optimizers.OptimizerContract",
    "schedule": "schedules.ScheduleContract",
    "layers": "layers.LayersContract",
    "regularizer": "regularizers.RegularizerContract",
    "quantizer": "quantizers.QuantizerContract",
    "context": "contexts.ContextContract",
    "vocabulary": "vocabularies.VocabularyContract",
    "order": "orders.OrderContract",
    "format": "formats.FormatContract",
    "augment": "augment.AugmentContract",
    "decoder": "decoders.DecoderContract",
}
"""Kind -> its contract; a task is held to its options alone."""
