"""Running a model inside the process: tokens, KV cache, grammar, sampling and decoding.

Everything here needs torch; nothing outside imports it before a model is loaded.
"""
