"""agentkit: retrieval-augmented, tool-calling agents on models inside the process."""
