"""``python -m agentkit.cli`` is the ``agentkit`` command."""

from __future__ import annotations

from agentkit.cli import main

if __name__ == "__main__":
    main()
