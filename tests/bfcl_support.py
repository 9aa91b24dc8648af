"""A small data set in BFCL's format, written for these tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

AREA = {
    "name": "shapes.area",
    "description": "Area of a rectangle.",
    "parameters": {
        "type": "dict",
        "properties": {
            "width": {"type": "float", "description": "in metres"},
            "height": {"type": "integer"},
            "unit": {"type": "string", "enum": ["m", "cm"], "default": "m"},
        },
        "required": ["width", "height"],
    },
}
BOOK = {
    "name": "book",
    "description": "Book a table.",
    "parameters": {
        "type": "dict",
        "properties": {
            "names": {"type": "array", "items": {"type": "string"}},
            "at": {
                "type": "dict",
                "properties": {"day": {"type": "string"}, "hour": {"type": "integer"}},
            },
            "size": {"type": "tuple", "items": {"type": "integer"}},
            "dishes": {"type": "array", "items": {"type": "dict"}},
            "smoking": {"type": "boolean"},
            "note": {"type": "any"},
        },
        "required": ["names"],
    },
}
RIGHT_AREA = {"shapes.area": {"width": [2.0], "height": [3], "unit": ["", "m"]}}
RIGHT_BOOK = {
    "book": {
        "names": [["Ann Lee", "Bob"], ["Bob", "Ann Lee"]],
        "at": [{"day": ["May 1st, 2025"], "hour": [7, ""]}, ""],
        "size": [[2, 3], ""],
        "dishes": [[{"dish": ["soup"]}, {"dish": ["rice"]}], ""],
        "smoking": [True, ""],
        "note": ["by the window", ""],
    }
}
DATA: dict[str, list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]] = {
    "simple_python": [
        ("What is the area of 2 by 3 metres?", [AREA], [RIGHT_AREA]),
        ("A table for Ann Lee and Bob.", [BOOK], [RIGHT_BOOK]),
    ],
    "parallel_multiple": [("Both, please.", [AREA, BOOK], [RIGHT_AREA, RIGHT_BOOK])],
    "irrelevance": [("How are you?", [AREA], [])],
    "live_relevance": [("Do something.", [AREA], [])],
}


def write_data(folder: Path) -> Path:
    """Write the data set; the folder."""
    (folder / "possible_answer").mkdir(parents=True)
    for category, cases in DATA.items():
        lines, answers = [], []
        for number, (question, functions, truth) in enumerate(cases):
            identifier = f"{category}_{number}"
            turn = [[{"role": "user", "content": question}]]
            lines.append({"id": identifier, "question": turn, "function": functions})
            answers.append({"id": identifier, "ground_truth": truth})
        name = f"BFCL_v4_{category}.json"
        (folder / name).write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        if "relevance" not in category:
            (folder / "possible_answer" / name).write_text(
                "\n".join(map(json.dumps, answers)), encoding="utf-8"
            )
    return folder
