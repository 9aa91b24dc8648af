"""Names from elsewhere as names of tools; what is missing is named."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit import ToolDefinition
from agentkit.errors import UserError
from agentkit_tools._names import check_known, matches, tool_name


@given(st.lists(st.text(max_size=90), max_size=8))
def test_whatever_they_are_called_names_are_valid_and_unique(texts: list[str]) -> None:
    taken: list[str] = []
    for text in texts:
        name = tool_name(text, taken)
        assert ToolDefinition(name=name).name not in taken
        taken.append(name)


def test_names_resemble_what_they_are_made_of() -> None:
    assert tool_name("repos/list-for-org") == "repos_list-for-org"
    assert tool_name("get/pets/{petId}") == "get_pets_petId"
    assert tool_name("2fa", ()) == "_2fa"
    assert tool_name("日本") == "tool"
    assert tool_name("x" * 80, ["x" * 64]) == "x" * 62 + "_2"


def test_a_name_that_looks_like_a_pattern_fits_itself() -> None:
    assert matches(["GET /items/[id]"], ["GET /items/[id]"])
    assert matches(["listPets"], ["list*"])
    assert not matches(["listPets"], ["LIST*"])


def test_a_misspelt_name_is_told_with_the_right_one() -> None:
    with pytest.raises(UserError, match="no tool fits 'READ_FILE'; did you mean 'read_file'"):
        check_known(["READ_FILE"], ["read_file", "write"], where="include")
    with pytest.raises(UserError, match="t18, t19 and 5 more"):
        check_known(["?!"], [f"t{n}" for n in range(25)], where="include")


def test_without_the_extra_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['mcp'] = None\n"
        "from importlib import util; find = util.find_spec\n"
        "util.find_spec = lambda name, *a: None if name == 'mcp' else find(name, *a)\n"
        "import agentkit_tools\n"
        "try: agentkit_tools.MCPServer\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    paths = [path for path in sys.path if path]
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("MissingExtraError")
    assert "pip install 'agentkit-granite[mcp]'" in result.stdout
