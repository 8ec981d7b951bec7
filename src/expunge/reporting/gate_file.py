"""The gates of an audit for a CI system: JUnit XML, or JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from expunge.errors import UsageError
from expunge.evals.plain_words import measured, subject
from expunge.evals.results import Gate, Results
from expunge.metrics.outcomes import Axis, Status
from expunge.utils.io import json_text, printable, write_text

SCHEMA = "expunge.gates/1"
"""Name and version of the layout of the JSON file."""
ENDINGS = (".xml", ".json")

_FAILED = (Status.FAIL, Status.SCAR)


def require_gate_file(path: Path) -> None:
    """Refuse a file whose ending names no format, before anything is computed.

    Raises:
        UsageError: It ends in neither `.xml` nor `.json`, or is a folder.
    """
    if path.suffix.lower() not in ENDINGS or path.is_dir():
        raise UsageError(
            "gate-file",
            what=f"{path} is {'a folder' if path.is_dir() else 'neither .xml nor .json'}",
            why="the ending decides what is written: JUnit XML or JSON",
            fix="name a file such as gates.xml or gates.json",
        )


def write_gate_file(path: Path, results: Results, *, folder: Path, passed: bool) -> None:
    """Write the gates as JUnit XML or JSON, as the ending says.

    Args:
        path: The file; folders above it are made.
        results: What the audit concluded.
        folder: The run folder.
        passed: Whether the verdict is one that a gate lets through.

    Raises:
        UsageError: As `require_gate_file`.
    """
    require_gate_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".json":
        write_text(path, json_text(gates_json(results, folder=folder, passed=passed)))
    else:
        write_text(path, gates_junit(results, folder=folder, passed=passed))


def gates_json(results: Results, *, folder: Path, passed: bool) -> dict[str, Any]:
    """Return verdict, axes and gates as JSON values; the arguments are those of `gates_junit`."""
    verdict = results.verdict
    return {
        "schema": SCHEMA,
        "run": str(folder),
        "passed": passed,
        "verdict": {
            "ruling": verdict.ruling.value,
            "threat_model": verdict.threat_model,
            "tier": verdict.tier,
            "provisional": verdict.provisional,
            "sentence": verdict.sentence,
        },
        "axes": {axis.value: status.value for axis, status in results.axes.items()},
        "gates": [asdict(gate) for gate in results.gates],
    }


def gates_junit(results: Results, *, folder: Path, passed: bool) -> str:
    """Return the gates as JUnit XML: a suite for the verdict, for each axis, and for self-tests.

    A gate that failed, or found a scar, is a failure. One that is inconclusive or not computable is
    skipped: it is no pass, and no proof of a fault. What decides is the verdict.

    Args:
        results: What the audit concluded.
        folder: The run folder.
        passed: Whether the verdict is one that a gate lets through.
    """
    root = ElementTree.Element("testsuites", name="expunge")
    verdict = results.verdict
    suite = ElementTree.SubElement(root, "testsuite", name="verdict")
    case = _case(suite, "verdict", f"{verdict.ruling} ({verdict.threat_model}, {verdict.tier})")
    if not passed:
        reasons = "\n".join((verdict.sentence, *verdict.reasons, f"run: {folder}"))
        _mark(case, "failure", verdict.ruling.value, reasons)
    for axis in Axis:
        gates = results.of(axis)
        if gates:
            suite = ElementTree.SubElement(root, "testsuite", name=axis.value)
            for gate in gates:
                _add_gate(suite, axis.value, gate)
    if results.self_tests:
        suite = ElementTree.SubElement(root, "testsuite", name="self-tests")
        for test in results.self_tests:
            case = _case(suite, "self-tests", test.name)
            if not test.passed:
                _mark(case, "failure", "self-test failed", test.detail)
    for suite in (root, *root):
        cases = list(suite.iter("testcase"))
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(sum(each.find("failure") is not None for each in cases)))
        suite.set("errors", "0")
        suite.set("skipped", str(sum(each.find("skipped") is not None for each in cases)))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _add_gate(suite: ElementTree.Element, axis: str, gate: Gate) -> None:
    case = _case(suite, axis, gate.name)
    detail = f"{subject(gate)}: {measured(gate)}\n{gate.reason}\nexpunge explain '{gate.name}'"
    if gate.status in _FAILED:
        _mark(case, "failure", gate.status.value, detail)
    elif gate.status is not Status.PASS:
        _mark(case, "skipped", gate.status.value, detail)


def _case(suite: ElementTree.Element, group: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=f"expunge.{group}", name=_text(name), time="0"
    )


def _mark(case: ElementTree.Element, kind: str, message: str, detail: str) -> None:
    ElementTree.SubElement(case, kind, message=_text(message)).text = _text(detail)


def _text(text: str) -> str:
    """Return a text that XML 1.0 may hold: other characters are spelled out."""
    return printable(text)
