"""The subcommands of `sweetspot`, one module each: `add_arguments` declares its command line, `run` does it and returns the
exit code."""
