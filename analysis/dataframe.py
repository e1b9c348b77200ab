"""The report as a pandas data frame: a row a layer."""

from typing import TYPE_CHECKING

from convlens.analysis.errors import MissingPackageError
from convlens.analysis.record import COLUMNS, layer_record
from convlens.analysis.report import Report

if TYPE_CHECKING:
    import pandas

# What may be missing, so that a plain integer column would become one of floats.
_OPTIONAL_INTEGERS = ("macs", "flops", "activation_bytes")


def report_dataframe(report: Report) -> "pandas.DataFrame":
    """The layers as rows, indexed by their place in the order of execution.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "a data frame needs pandas: pip install 'convlens[notebook]'"
        ) from error
    frame = pandas.DataFrame(map(layer_record, report.layers), columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(_OPTIONAL_INTEGERS, "Int64")).set_index("index")
