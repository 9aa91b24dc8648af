"""Ready tools for agentkit agents."""
