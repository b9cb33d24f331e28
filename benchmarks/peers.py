"""sadl beside torch, torch.compile and jax.jit on the same training steps.

    make bench-peers            or        python benchmarks/peers.py --peers-python PATH [--rounds 5] [workload ...]

Every measurement runs in a process of its own, the frameworks in turn (A B C A B C ...), all with their default threads
and without OPENBLAS_CORETYPE; the figure of a framework is the median of its rounds' medians. The last column is how
many times as fast as the best peer sadl is. Losses are compared step by step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

PEERS = ("torch", "torch.compile", "jax")


def measure(framework: str, workload: str, seconds: float) -> dict[str, Any]:
    """First call, warm-up, then timed steps for about so many seconds."""
    from workloads import step

    run = step(framework, workload)
    start = time.perf_counter()
    losses = [run()]
    first = time.perf_counter() - start
    losses += [run() for _ in range(9)]
    start = time.perf_counter()
    run()
    rounds = max(10, min(3000, int(seconds / (time.perf_counter() - start))))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e6)
    return {"first_s": first, "median_us": statistics.median(times), "losses": losses}


def in_process(python: str, framework: str, workload: str, seconds: float) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    command = [python, __file__, "--run", framework, workload, "--seconds", str(seconds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{framework} {workload} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(workload: str, pythons: dict[str, str], rounds: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {f: [] for f in pythons}
    for _ in range(rounds):
        for framework, python in pythons.items():
            results[framework].append(in_process(python, framework, workload, seconds))
    return results


def report(workload: str, results: dict[str, list[dict[str, Any]]]) -> float:
    us = {f: statistics.median(r["median_us"] for r in rs) for f, rs in results.items()}
    reference = results["torch"][0]["losses"]
    worst = max(abs(a - b) / abs(b) for a, b in zip(results["sadl"][0]["losses"], reference, strict=True))
    ratio = min(us[p] for p in PEERS) / us["sadl"]
    figures = "".join(f"{us[f]:14.0f}" for f in us)
    print(f"{workload:12s}{figures}{worst:14.1e}{ratio:10.2f}", flush=True)
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*")
    parser.add_argument("--peers-python", default=sys.executable, help="a Python that has torch and jax")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of timed steps per process")
    parser.add_argument("--run", metavar="FRAMEWORK", help=argparse.SUPPRESS)
    options = parser.parse_args()
    from workloads import WORKLOADS

    if options.run:
        print(json.dumps(measure(options.run, options.workloads[0], options.seconds)))
        return
    pythons = {"sadl": sys.executable, "sadl eager": sys.executable} | dict.fromkeys(PEERS, options.peers_python)
    print("median microseconds per training step")
    print(f"{'':12s}" + "".join(f"{f:>14s}" for f in pythons) + f"{'loss vs torch':>14s}{'ratio':>10s}")
    ratios = [report(w, compare(w, pythons, options.rounds, options.seconds)) for w in options.workloads or WORKLOADS]
    print(f"geometric mean of the ratios: {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
