"""Pretrained models: loading, the policy the objectives see, generation, saving and export."""
