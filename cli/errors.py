"""How a command fails: one line on stderr and an exit code.

CommandError     the work failed: exit code 1
└── UsageError   the command was used wrongly: exit code 2
"""


class CommandError(Exception):
    """The work failed; its text is the line that the user reads."""

    exit_code = 1


class UsageError(CommandError):
    """The command was used wrongly."""

    exit_code = 2
