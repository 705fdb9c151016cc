"""The subcommands of `headcount`, one a file."""
