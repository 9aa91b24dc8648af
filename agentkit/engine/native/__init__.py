"""Forward passes over a few tokens in one compiled call, and weights in compact forms.

:mod:`~agentkit.engine.native.compiling` builds the C code beside this file once a machine,
:mod:`~agentkit.engine.native.library` is its interface,
:mod:`~agentkit.engine.native.model` describes a transformers model to it,
:mod:`~agentkit.engine.native.backend` runs passes with it, and
:mod:`~agentkit.engine.native.weights` holds weights in bfloat16, eight or four bits.
"""
