"""Runs the README's code of one language and compares what it prints with what the README says it prints.

Usage: readme.py LANGUAGE PROGRAM...      the code is handed to the program on standard input, in the repository's root
"""

import pathlib
import re
import subprocess
import sys

language, *program = sys.argv[1:]
root = pathlib.Path(__file__).resolve().parent.parent
text = (root / "README.md").read_text(encoding="utf-8")
blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
code = next(body for name, body in blocks if name == language)
expected = next(body for name, body in blocks if name == "text")
lines = code.strip().splitlines()
if len(lines) > 12:
    sys.exit(f"the {language} code has {len(lines)} lines; the README promises at most 12")
run = subprocess.run(program, input=code, text=True, capture_output=True, cwd=root, encoding="utf-8")
if run.returncode != 0 or run.stdout != expected:
    sys.exit(f"exit code {run.returncode}\n--- printed\n{run.stdout}--- expected\n{expected}--- stderr\n{run.stderr}")
print(f"{language}: {len(lines)} lines, printed as promised")
