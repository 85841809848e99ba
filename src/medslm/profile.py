"""Profiles: named sets of params.yaml values, written into the file with its comments kept."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

from medslm.errors import DataError, ParamsError
from medslm.files import read_jsonl, sha256_of

NAMES = ("sample", "pubmedqa", "paper")

# Sections whose entries the user names: a profile brings them whole, comments and all.
# In every other section a profile sets single values in place.
_WHOLE = ("data", "teachers", "asks", "answers", "variants")
_SECTION = re.compile(r"^([A-Za-z_]\w*):", re.MULTILINE)
_VALUE = re.compile(r"^  (\w+):[ ]+(.+)$", re.MULTILINE)


def load_profile(name: str) -> str:
    """Return the text of a profile; ParamsError if there is none of this name."""
    if name not in NAMES:
        raise ParamsError(f"profile {name!r}: there is no such profile; choose one of {NAMES}")
    return (resources.files("medslm") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")


def apply_profile(text: str, profile: str) -> str:
    """Return params.yaml's ``text`` with the values of ``profile``.

    Sections the user fills with names of their own (data, teachers, asks, answers, variants) are
    replaced, single values elsewhere are set in their line; every other line stays as it is. Raises
    ParamsError for a section or key that ``text`` does not have.
    """
    for section in _SECTION.findall(profile):
        lines = section_text(profile, section)
        if section in _WHOLE:
            text = replace_section(text, section, lines)
        else:
            for key, value in _VALUE.findall(lines):
                text = set_value(text, section, key, value)
    return text


def use_questions(text: str, path: Path) -> str:
    """Return ``text`` with ``data`` reading the file at ``path``, its present hash pinned."""
    if not path.is_file():
        raise DataError(f"{path}: no such file (--questions)")
    body = {"source": "file", "path": str(path), "sha256": sha256_of(path), "unlabelled": None}
    return replace_section(text, "data", _block("data", body))


def use_replies(text: str, path: Path) -> str:
    """Return ``text`` with every ask put to a teacher that reads recorded replies from ``path``.

    How many replies an abstract has is the largest index in the file for that strategy plus one; asks
    of a strategy that the file lacks are left out, and so are they in the variants. Replies of the
    strategy ``answer`` are a teacher's own answers to held-out questions: they train nobody.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file (--replies)")
    counts = _recorded_counts(path)
    answers: dict[str, Any] = {}
    if counts.pop("answer", 0):
        entry = {"teacher": "recorded", "shots": 0, "prompt": "v1", "seed": 0}
        answers = {"recorded-answer": entry}
    asks = {
        f"recorded-{strategy}": {
            "teacher": "recorded",
            "strategy": strategy,
            "prompt": "v1",
            "questions": "train",
            "per_question": count,
            "answers": None,
            "seed": 0,
        }
        for strategy, count in sorted(counts.items(), reverse=True)
    }
    teacher = {
        "backend": "recorded",
        "path": str(path),
        "sha256": sha256_of(path),
        "max_failed_share": 0.1,
    }
    variants: dict[str, Any] = {"none": []}
    variants |= {strategy: [f"recorded-{strategy}"] for strategy in sorted(counts, reverse=True)}
    variants["combined"] = list(asks)
    variants |= _controls(text, variants)
    text = replace_section(text, "teachers", _block("teachers", {"recorded": teacher}))
    text = replace_section(text, "asks", _block("asks", asks))
    text = replace_section(text, "answers", _block("answers", answers))
    return replace_section(text, "variants", _block("variants", variants))


def _controls(text: str, variants: dict[str, Any]) -> dict[str, Any]:
    """Return the controls without asks whose length is still that of one of ``variants``."""
    import yaml

    old = yaml.safe_load(section_text(text, "variants"))["variants"] or {}
    return {
        name: entry
        for name, entry in old.items()
        if isinstance(entry, dict) and not entry.get("asks") and entry.get("as_many_as") in variants
    }


def _recorded_counts(path: Path) -> dict[str, int]:
    """Return per strategy how many replies the fullest abstract has in a file of recordings."""
    from medslm.teacher.recorded import Recording

    counts: dict[str, int] = {}
    for row in read_jsonl(path, Recording):
        counts[row.strategy] = max(counts.get(row.strategy, 0), row.index + 1)
    return counts


def _block(section: str, body: dict[str, Any]) -> str:
    """Return a section as YAML: one line per entry, inner mappings and lists on that line."""
    if not body:
        return f"{section}: {{}}\n"
    lines = [f"{section}:"]
    lines += [f"  {key}: {_flow(value)}" for key, value in body.items()]
    return "\n".join(lines) + "\n"


def section_text(text: str, section: str) -> str:
    """Return the lines of a top-level section, from its name to its last value or comment."""
    start, end = _bounds(text, section)
    return text[start:end]


def replace_section(text: str, section: str, new: str) -> str:
    """Return ``text`` with the lines of one top-level section replaced."""
    start, end = _bounds(text, section)
    return text[:start] + new.rstrip("\n") + "\n" + text[end:]


def set_value(text: str, section: str, key: str, value: str) -> str:
    """Return ``text`` with ``section.key`` set to ``value``, written as YAML; a comment behind it stays."""
    start, end = _bounds(text, section)
    line = re.compile(rf"^(  {re.escape(key)}:[ ]+)(.*?)([ ]+#.*)?$", re.MULTILINE)
    body, count = line.subn(
        lambda m: m.group(1) + value + (m.group(3) or ""), text[start:end], count=1
    )
    if not count:
        raise ParamsError(f"params.yaml: {section}.{key}: there is no such line to set")
    return text[:start] + body + text[end:]


def _bounds(text: str, section: str) -> tuple[int, int]:
    """Return where a section's lines begin and end; comments at the margin belong to the next one."""
    starts = {m.group(1): m.start() for m in _SECTION.finditer(text)}
    if section not in starts:
        raise ParamsError(f"params.yaml: {section}: there is no such section")
    start = starts[section]
    end = min((s for s in starts.values() if s > start), default=len(text))
    body = text[start:end].split("\n")
    while len(body) > 1 and (body[-1] == "" or body[-1].startswith("#")):
        body.pop()
    return start, start + len("\n".join(body)) + (
        1 if start + len("\n".join(body)) < len(text) else 0
    )


def _flow(value: object) -> str:
    """Return a YAML scalar or a list on one line."""
    import yaml

    dumped = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
    )
    return dumped.removesuffix("...\n").strip()
