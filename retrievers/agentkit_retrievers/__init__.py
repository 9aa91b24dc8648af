"""Loading, chunking, embedding and searching documents for agentkit agents."""
