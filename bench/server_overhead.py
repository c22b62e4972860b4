#!/usr/bin/env python3
"""What the server costs a single worker: samples/s of one worker and one shard over the same loop with no server.

    bench/server_overhead.py [--runs 5] [--epochs 2] [--model cnn]

Both sides train the same model on the same drawn digits with the same batch, BLAS threads and set of cores, in turn
(A B A B ...), and the ratio is taken pair by pair. Lagoon's figure is samples over the trainer's own compute and
communication seconds, so that starting processes and evaluating count on neither side.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/integration"))
from cluster import BIN, Cluster  # noqa: E402


def local_rate(args):
    """train_local's samples/s."""
    done = subprocess.run(
        [os.path.join(BIN, "../bench/train_local"), "--model.kind", args.model, "--dataset.kind", "glyphs",
         "--dataset.train_samples", str(args.samples), "--dataset.test_samples", "100", "--batch", str(args.batch),
         "--epochs", str(args.epochs), "--updater", args.updater, "--lr", "0.001", "--threads", str(args.threads),
         "--evaluate", "0"], capture_output=True, text=True, check=True, cwd=ROOT)
    rates = re.findall(r"([0-9.]+) samples/s", done.stdout)
    return float(rates[-1])


def server_rate(args, cluster):
    job = cluster.submit(**{
        "name": "overhead", "model.kind": args.model, "dataset.kind": "glyphs",
        "dataset.train_samples": args.samples, "dataset.test_samples": 100, "train.batch": args.batch,
        "train.epochs": args.epochs, "train.threads": args.threads, "updater.kind": args.updater, "lr.base": 0.001,
        "evaluate.every_epochs": 0})
    document = cluster.wait(job, seconds=600)
    trainer = document["trainers"][0]
    return args.samples * args.epochs / (trainer["compute_seconds"] + trainer["communication_seconds"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--updater", default="adam")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    pairs = []
    with Cluster(shards=1, workers=1) as cluster:
        for _ in range(args.runs):
            pairs.append((server_rate(args, cluster), local_rate(args)))
            if not args.json:
                print("with a server %8.0f samples/s   without %8.0f   ratio %.3f" %
                      (*pairs[-1], pairs[-1][0] / pairs[-1][1]), flush=True)
    ratios = [a / b for a, b in pairs]
    result = {"model": args.model, "batch": args.batch, "threads": args.threads, "cores": os.cpu_count(),
              "server_samples_per_second": statistics.median(a for a, _ in pairs),
              "local_samples_per_second": statistics.median(b for _, b in pairs),
              "ratio": statistics.median(ratios), "ratio_least": min(ratios), "ratio_most": max(ratios)}
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print("ratio: median %(ratio).3f, from %(ratio_least).3f to %(ratio_most).3f" % result)


if __name__ == "__main__":
    main()
