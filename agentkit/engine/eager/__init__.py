"""Forward passes laid by hand in torch: for GPUs, and for CPUs without a C compiler.

transformers' forward is written to be general: some forty operations and a dozen modules a layer,
one sequence at a time. Here a pass reads all rows at once with about fifteen operations a layer.

:mod:`~agentkit.engine.eager.model` takes a transformers model's weights over, without copying,
:mod:`~agentkit.engine.eager.weights` holds matrices, also in eight and four bits,
:mod:`~agentkit.engine.eager.step` is the pass,
:mod:`~agentkit.engine.eager.ragged` and :mod:`~agentkit.engine.eager.padded` are the two ways in
which it gets at what past tokens left: row by row in their own caches, or all rows at once in
:mod:`~agentkit.engine.eager.slots`, whose tensors stay where they are and can therefore be
:mod:`captured <agentkit.engine.eager.graphs>` in CUDA graphs.

Everything is tested on CPUs. Capturing has not been run on a card: what needs one is
:class:`agentkit.engine.eager.graphs.CudaCapture`, and nothing else.
"""
