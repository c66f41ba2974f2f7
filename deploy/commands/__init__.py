"""The subcommands of `newsquake`, one module each."""
