"""One file per verb of the command line. What they import at their head, `vaenas --help` imports."""
