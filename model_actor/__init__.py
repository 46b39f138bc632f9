"""Runs sessions on a model: plugin interface, engine, codecs beside the model."""
