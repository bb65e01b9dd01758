"""The subcommands of `sweetspot`, one module each: `add_arguments` declares the command line, `run` carries it out and
returns the exit code."""
