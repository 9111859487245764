"""Finding what is wrong with files of dialogues, and mending what can be."""

from lit_vlm.linting.fixing import Fixer, FixReport
from lit_vlm.linting.linter import FileReport, Linter
from lit_vlm.linting.problems import ABOUT, Finding, Problem, severity_of

__all__ = [
    "ABOUT",
    "FileReport",
    "Finding",
    "FixReport",
    "Fixer",
    "Linter",
    "Problem",
    "severity_of",
]
