"""`vaenas` and `python -m vaenas`."""

import signal


def main() -> None:
    """Entry point: the command line, which takes seconds to import; an interruption until then has no traceback."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, and stays so
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vaenas import cli

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
