"""`python -m stepwell ask PATH... "question"`: the same command as in Rust and Node."""

from __future__ import annotations

import os
import signal
import sys

USAGE = """usage: stepwell ask PATH... "question"

  ask   answers a question from files and folders, with citations; `stepwell ask --help` tells more
"""


def main(words: list[str] | None = None) -> int:
    """Runs the command; its exit code."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["ask"]:
        from ._engine import native

        # The command prints and hears Ctrl-C by itself: Python's own buffer goes out first, its handler aside.
        sys.stdout.flush()
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return native.ask(words[1:])
        finally:
            signal.signal(signal.SIGINT, before)
    if words[:1] in (["--version"], ["-V"]):
        from ._engine import native

        print(f"stepwell {native.__version__}")
        return 0
    is_asked = words[:1] in (["--help"], ["-h"])
    print(USAGE, end="", file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The command's own threads may still be at work (Ctrl-C while indexing): there is nothing to wait for.
    os._exit(code) if code == 130 else sys.exit(code)
