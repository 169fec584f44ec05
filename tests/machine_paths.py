"""Folders of somebody's machine in a text: no committed output may have one."""

import re

PATTERNS = (
    re.compile(r"(?<![\w.:/~>…])/(?:home|root|Users|usr|opt|tmp|var|mnt|work|workspace|builds?|private)/[\w.-]"),
    re.compile(r"\b[A-Z]:\\\\?(?:Users|Program)"),
)


def machine_paths(text):
    """Every place in a text that looks like one."""
    return [match.group(0) for pattern in PATTERNS for match in pattern.finditer(text)]
