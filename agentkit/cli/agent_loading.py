"""An agent named on the command line: ``module:attribute`` or ``file.py:attribute``."""

from __future__ import annotations

import difflib

from agentkit.agent import Agent
from agentkit.cli.tool_loading import import_module
from agentkit.errors import UserError

__all__ = ["load_agent"]


def load_agent(spec: str, option: str = "--agent") -> Agent:
    """Import an agent, or call the function that makes it.

    Args:
        spec: ``module:attribute``; in place of a module's name the path of a ``.py`` file.
        option: What to call it in errors.

    Raises:
        UserError: There is no such module or attribute, or it is no agent.
    """
    module_name, _, name = spec.rpartition(":")
    if not module_name or not name:
        raise UserError(
            f"{option} {spec!r}: give a module and a name, the agent's in it, as in "
            "my_agents:support"
        )
    module = import_module(module_name, option)
    value: object = module
    for part in name.split("."):
        if not hasattr(value, part):
            agents = [key for key, found in vars(module).items() if isinstance(found, Agent)]
            near = difflib.get_close_matches(part, vars(module), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(
                f"{option}: module {module_name!r} has no {name!r}{hint}; "
                f"its agents: {', '.join(agents) or 'there are none'}"
            )
        value = getattr(value, part)
    if not isinstance(value, Agent) and callable(value):
        value = value()
    if not isinstance(value, Agent):
        raise UserError(
            f"{option}: {name!r} in module {module_name!r} is of type {type(value).__name__}; "
            "it must be an Agent, or a function without arguments that makes one"
        )
    return value
