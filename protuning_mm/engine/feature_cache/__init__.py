"""Cached features: what a frozen backbone computes is stored once, and later epochs read it.

:class:`~protuning_mm.engine.hooks.FeatureCacheHook` uses this folder; nothing else depends on it.
"""
