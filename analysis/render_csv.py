"""The report as CSV: a row a layer, for a spreadsheet or a data frame."""

import csv
import io

from convlens.analysis.record import COLUMNS, layer_record
from convlens.analysis.report import Report

# A cell that starts with one of these is a formula to a spreadsheet.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def report_csv(report: Report) -> str:
    """The layers as RFC 4180 has it; what is not known is left empty.

    Texts of the file that a spreadsheet would run as a formula get an apostrophe in front.
    Source: OWASP, "CSV injection".
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS)
    writer.writeheader()
    for layer in report.layers:
        writer.writerow({name: _cell(value) for name, value in layer_record(layer).items()})
    return buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return _text(",".join("" if entry is None else str(entry) for entry in value))
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    is_number = text.replace("-", "").replace(",", "").replace("/", "").isdigit()
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not is_number else text
