"""The exercises of notebook 06, find the bug."""

from __future__ import annotations

from .judge import Choice, Exercise, Question

EXERCISES: dict[str, Exercise | Question | Choice] = {}
