"""The commands of `persia`, a module per group: their arguments, and the function that each calls.

Nothing heavy is imported before a command runs, so that `--help` is quick.
"""

from persia_core.commands import (
    clean,
    config,
    data,
    handoff,
    jobs,
    platform,
    retention,
    serve,
    training,
    validation,
)

COMMANDS = (
    *platform.COMMANDS,
    *data.COMMANDS,
    *training.COMMANDS,
    *jobs.COMMANDS,
    *validation.COMMANDS,
    *handoff.COMMANDS,
    *retention.COMMANDS,
    *serve.COMMANDS,
    *config.COMMANDS,
    *clean.COMMANDS,
)
