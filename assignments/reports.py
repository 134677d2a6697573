"""What hidden tests report, compared with what they report about the solution."""

import math

from nbformat import NotebookNode

KIND = "application/vnd.nonlinearity.report+json"  # as sandbox/examiner.py displays them
# Relative and absolute. What differs by more is another function, what differs by less is rounding.
TOLERANCE = {"float64": 1e-8, "float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}


def take(cell: NotebookNode) -> list[dict]:
    """The reports among a test cell's outputs, which are left without them.

    Values that the cell shows go as well: nbgrader would take a number for the score.
    """
    outputs, cell.outputs = cell.outputs, []
    found = []
    for output in outputs:
        if KIND in output.get("data", {}):
            found.append(output["data"][KIND])
        elif output.output_type != "execute_result":
            cell.outputs.append(output)
    return found


def difference(expected: list[dict], found: list) -> str | None:
    """What is wrong with the reports of a test, for the student to read; None if nothing is.

    Args:
        expected: what the solution reports.
        found: what came out of a student's kernel, which can be anything that JSON can hold.
    """
    for wanted, given in zip(expected, found):
        if not isinstance(given, dict) or given.get("what") != wanted["what"]:
            return f"{wanted['what']}: not reported"
        fault = _unlike(wanted["value"], given.get("value"), wanted["rtol"], wanted["atol"])
        if fault:
            return f"{wanted['what']}: {fault}"
    if len(found) != len(expected):
        return f"{len(found)} results instead of {len(expected)}"
    return None


def _unlike(wanted: dict, given: object, rtol: float | None, atol: float | None) -> str | None:
    if not isinstance(given, dict) or given.get("type") != wanted["type"]:
        return f"it must be a {wanted['type']}"
    if "numbers" in wanted:
        return _unlike_numbers(wanted, given, rtol, atol)
    if "items" in wanted:
        items = given.get("items")
        if not isinstance(items, list) or len(items) != len(wanted["items"]):
            return f"there must be {len(wanted['items'])} of them"
        faults = (_unlike(a, b, rtol, atol) for a, b in zip(wanted["items"], items))
        return next(filter(None, faults), None)
    return None if given.get("text") == wanted["text"] else "not as it should be"


def _unlike_numbers(wanted: dict, given: dict, rtol: float | None, atol: float | None) -> str | None:
    for about in ("dtype", "shape"):
        if given.get(about) != wanted[about]:
            return f"the {about} must be {wanted[about]}"
    usual = TOLERANCE.get(wanted["dtype"], 0.0)
    rtol, atol = (usual if tolerance is None else tolerance for tolerance in (rtol, atol))
    try:
        pairs = [(float(a), float(b)) for a, b in zip(wanted["numbers"], given["numbers"], strict=True)]
    except (KeyError, TypeError, ValueError, OverflowError):
        return "these are no numbers"
    wrong = [b for a, b in pairs if not _close(a, b, rtol, atol)]
    if not wrong:
        return None
    return f"{len(wrong)} of {len(pairs)} numbers are wrong" + ", with NaN among them" * any(
        map(math.isnan, wrong)
    )


def _close(wanted: float, given: float, rtol: float, atol: float) -> bool:
    if math.isfinite(wanted) and math.isfinite(given):
        return abs(wanted - given) <= atol + rtol * abs(wanted)
    return wanted == given or (math.isnan(wanted) and math.isnan(given))
