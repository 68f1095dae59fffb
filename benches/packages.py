"""Size of the wheel and of the npm package, and what importing them costs.

Builds both as they are shipped (profile `dist`), installs the wheel into a venv of its own. Usage: packages.py TARGET_DIR
"""

import gzip
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(sys.argv[1]).resolve()
RUNS = 15


def run(*words, **more):
    subprocess.run([str(word) for word in words], check=True, stdout=sys.stderr, **more)


def cpu_ms(*words):
    """CPU time of a whole process, the median of some runs."""
    samples = []
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        samples.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000)
    return statistics.median(samples)


def claim(name, value, unit, must, peer=None):
    line = f"claim {name} value={value:.4g} unit={unit} must=<={must}"
    if peer:
        line += f" peer={peer[0]}:{peer[1]:.4g} ratio={value / peer[1]:.3g}"
    print(line, flush=True)


def python():
    venv = TARGET / "venv-packages"
    if not (venv / "bin/python").exists():
        run(sys.executable, "-m", "venv", venv)
    run(venv / "bin/pip", "install", "-q", "--disable-pip-version-check", "maturin==1.16.0", "litellm==1.106.2")
    with tempfile.TemporaryDirectory() as folder:
        run(venv / "bin/maturin", "build", "-q", "--profile", "dist", "--out", folder, cwd=ROOT / "bindings/python")
        wheel = next(pathlib.Path(folder).glob("*.whl"))
        claim("wheel_size", wheel.stat().st_size / 1e6, "MB", 25)
        run(venv / "bin/pip", "install", "-q", "--force-reinstall", "--no-deps", wheel)
    program = venv / "bin/python"
    bare = cpu_ms(program, "-c", "pass")
    ours = cpu_ms(program, "-c", "import stepwell") - bare
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the peer is measured, not its wait for the network
    peer = cpu_ms(program, "-c", "import litellm") - bare
    claim("python_import", ours, "cpu-ms", 50, ("litellm", peer))


def node():
    package = ROOT / "bindings/node"
    if not (package / "node_modules").exists():
        run("npm", "ci", "--no-audit", "--no-fund", cwd=package)
    run("npm", "run", "build:dist", cwd=package)
    packed = json.loads(subprocess.run(["npm", "pack", "--dry-run", "--json"], cwd=package, check=True, capture_output=True).stdout)
    # The engine itself travels in a package per platform.
    engine = sum(len(gzip.compress(file.read_bytes(), 6)) for file in package.glob("*.node"))
    claim("npm_size", (packed[0]["size"] + engine) / 1e6, "MB", 25)
    bare = cpu_ms("node", "-e", "0")
    loaded = cpu_ms("node", "--input-type=module", "-e", f"import {json.dumps(str(package / 'index.mjs'))}")
    claim("node_import", loaded - bare, "cpu-ms", 50)


if __name__ == "__main__":
    if not shutil.which("npm"):
        sys.exit("install Node 20 or later first")
    os.environ["CARGO_TARGET_DIR"] = str(TARGET)
    python()
    node()
