#!/usr/bin/env python3
"""Trains the jobs whose figures are in docs/results.md and prints them as Markdown rows.

    bench/results.py mlp | cnn | gpt | agaricus | memory   [--seeds 3]

Real daemons on this machine, real data from ../shared/data (or LAGOON_DATA).
"""

import argparse
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests/integration"))
from cluster import DATA, Cluster, pss_bytes  # noqa: E402


def train(workers, file, show=True, keep=None, **keys):
    """Runs a job to its end; returns its document."""
    with Cluster(shards=2, workers=workers, dead_after="5s") as cluster:
        began = time.monotonic()
        job = cluster.submit(os.path.join(ROOT, "configs/jobs", file), **keys)
        document = cluster.wait(job, seconds=3600)
        document["seconds"] = time.monotonic() - began
        for row in document["ledger"]:
            assert row["samples_least"] == row["samples_most"] == document["samples_total"] // document["epochs"], row
        if keep:
            keep(cluster, job)
    staleness = document["staleness"]
    if show:
        print("| %s | %d | %.2f %% | %.4f | %.0f s | %.0f | %.2f / %d / %d | %.3f |" % (
            document["name"], workers, 100 * document["accuracy"], document["evaluation_loss"], document["seconds"],
            document["samples_total"] / document["seconds"], staleness["mean"], staleness["p99"], staleness["max"],
            document["weight_mean"]), flush=True)
    return document


def head():
    print("| job | workers | test accuracy | test loss | time | samples/s | staleness mean / p99 / max | mean weight |")
    print("|---|---|---|---|---|---|---|---|", flush=True)


def mlp(args):
    head()
    data = {"dataset.path": os.path.join(DATA, "mnist")}
    four = [train(4, "mnist-mlp.yaml", seed=seed + 1, **data)["accuracy"] for seed in range(args.seeds)]
    one = [train(1, "mnist-mlp.yaml", seed=seed + 1, **{"train.batch": 128, **data})["accuracy"]
           for seed in range(args.seeds)]
    print("\nmean over %d seeds: 4 workers of batch 32 %.2f %%, 1 worker of batch 128 %.2f %%, difference %+.2f points"
          % (args.seeds, 100 * statistics.mean(four), 100 * statistics.mean(one),
             100 * (statistics.mean(four) - statistics.mean(one))))


def cnn(args):
    head()
    for seed in range(args.seeds):
        train(3, "mnist-cnn.yaml", seed=seed + 1, **{"dataset.path": os.path.join(DATA, "mnist")})


def agaricus(args):
    head()
    for seed in range(args.seeds):
        train(2, "agaricus.yaml", seed=seed + 1, **{
            "dataset.train": os.path.join(DATA, "libsvm/agaricus.train"),
            "dataset.test": os.path.join(DATA, "libsvm/agaricus.test")})


def gpt(args):
    head()
    def sample(cluster, job):
        print("\n```\n%s```" % cluster.lagoon("job", job, "--sample", "500").stdout)
    document = train(2, "shakespeare-gpt.yaml", keep=sample,
                     **{"dataset.path": os.path.join(DATA, "text/tinyshakespeare.txt")})
    tokens = document["samples_total"] * 128
    print("\nvalidation loss %.3f nats/byte after %.2f M tokens in %.0f s: %.0f tokens/s" % (
        document["evaluation_loss"], tokens / 1e6, document["seconds"], tokens / document["seconds"]))
    print("per epoch:", ", ".join("%.3f" % row["loss"] for row in document["evaluations"]))


def memory(args):
    """PSS of the server over ten minutes of training, against what it should need."""
    pool = 64 << 20
    with Cluster(shards=2, workers=2) as cluster:
        job = cluster.submit(**{"model.kind": "mlp", "dataset.kind": "glyphs", "updater.kind": "adam",
                                "lr.base": 0.0001, "train.epochs": 100000, "model.hidden": "1024,1024"})
        cluster.wait_for(job, lambda d: d["samples_applied"] > 10000, 60, "it trains")
        document = cluster.job(job)
        need = sum(entry["parameter_bytes"] + entry["state_bytes"] for shard in cluster.json("shards")
                   for entry in shard["jobs"]) + 2 * pool
        server = cluster.daemons["server1"].pid
        print("%d parameters; parameters + optimizer state + credit pools: %.1f MiB" %
              (document["parameters"], need / 2**20))
        began = time.monotonic()
        while time.monotonic() - began < args.minutes * 60:
            time.sleep(30)
            print("%4.0f s  server PSS %6.1f MiB, %d samples applied" % (
                time.monotonic() - began, pss_bytes(server) / 2**20, cluster.job(job)["samples_applied"]), flush=True)
        cluster.lagoon("cancel", job)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["mlp", "cnn", "gpt", "agaricus", "memory"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    globals()[args.what](args)


if __name__ == "__main__":
    main()
