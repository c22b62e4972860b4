"""Real processes against the simulator: six workers, one of them eight times slower by sleeping.

    python3 bench/reality.py [--runs N] [--work DIR]

Each real run records its shard; from the recording come every worker's step times, which the simulator is fed with. Compared are
the mean staleness and the final accuracy. Then the figure that users feel: the time to a target accuracy, async against
bsp. Builds nothing; the programs are those of build/release, or BUILD.

All workers are slowed by sleeping, the slow one eight times more than the others, so that six of them do not fight for
two cores: what is compared is the order of events, not the speed of this machine.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
from cluster import BIN, Cluster  # noqa: E402

FAST, SLOW = 25, 8 * 25
JOB = {"model.kind": "mlp", "model.hidden": "128", "updater.kind": "momentum", "updater.beta": 0.5, "lr.base": 0.02,
       "train.batch": 16, "train.threads": 1, "train.push_pull": "no", "dataset.kind": "glyphs", "dataset.fresh": "no",
       "dataset.train_samples": 4000, "dataset.test_samples": 1000, "lease.duration": "500ms",
       "staleness.policy": "polynomial"}
EPOCHS = 12
TARGET = 0.90
RATES = {"async": (0.01, 0.02, 0.04, 0.08), "bsp": (0.04, 0.08, 0.16, 0.32)}


def decisions(path):
    """[(seconds, session, samples so far, staleness, weight)] of a recording."""
    text = subprocess.run([os.path.join(BIN, "lagoon"), "replay", path, "--decisions"], check=True, capture_output=True,
                          text=True).stdout
    rows = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 9 and re.fullmatch(r"\d+", words[0]) and re.fullmatch(r"[0-9a-f]{16}", words[2]):
            rows.append((float(words[1]), words[2], int(words[4]), int(words[5]), float(words[6])))
    return [row for row in rows if row[2] > 0]  # without the initial values


def real_run(folder, name, keys):
    """One run of the job on real daemons. Returns (document, decisions)."""
    path = os.path.join(folder, name + ".rec")
    with Cluster(servers=0, workers=6, slowdowns=(FAST,) * 5 + (SLOW,), dead_after="10s") as cluster:
        cluster.start_server("server1", 1, ["--record=" + path]).ready()
        job = cluster.submit(**{**JOB, **keys})
        document = cluster.wait(job, seconds=600)
        assert document["state"] == "finished", document["reason"]
        cluster.daemons["server1"].stop()
    return document, decisions(path)


def step_times(rows):
    """{session: seconds between its pushes}, without the gaps of evaluations and of waiting for a lease."""
    times = {}
    for session in {row[1] for row in rows}:
        at = [row[0] for row in rows if row[1] == session]
        gaps = [b - a for a, b in zip(at, at[1:])]
        if len(gaps) < 3:
            continue
        usual = statistics.median(gaps)
        times[session] = [gap for gap in gaps if gap < 4 * usual]
    return times


def target_time(document, rows):
    """Seconds from the first push to the first evaluation that reached the target; None where none did."""
    reached = [entry for entry in document["evaluations"] if entry["accuracy"] >= TARGET]
    if not reached:
        return None
    samples = min(entry["epoch"] for entry in reached) * int(JOB["dataset.train_samples"])
    return next(row[0] for row in rows if row[2] >= samples) - rows[0][0]


def simulated(folder, times):
    """The same job in the simulator, on workers whose step times are those that were measured."""
    slow = max(times, key=lambda session: statistics.mean(times[session]))
    for name, sessions in (("fast", set(times) - {slow}), ("slow", {slow})):
        with open(os.path.join(folder, name + ".txt"), "w") as file:
            file.writelines("%.6f\n" % gap for session in sorted(sessions) for gap in times[session])
    path, out = os.path.join(folder, "reality.yaml"), os.path.join(folder, "reality.json")
    keys = {**JOB, "train.epochs": EPOCHS, "sim.workers": "%dx1, 1x1" % (len(times) - 1), "sim.seeds": "1, 2, 3, 4, 5",
            "sim.step.distribution": "trace",
            "sim.step.trace": ", ".join(os.path.join(folder, name + ".txt") for name in ("fast", "slow"))}
    with open(path, "w") as file:
        file.writelines("%s: %s\n" % (key, json.dumps(value) if isinstance(value, str) else value)
                        for key, value in keys.items())
    subprocess.run([os.path.join(BIN, "lagoon"), "sim", path, "--json", out], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    with open(out) as file:
        return json.load(file)["cells"][0]["summary"]


def compare(folder, runs):
    """Real runs against the simulator fed with their step times."""
    real = {"accuracy": [], "staleness": [], "weight": []}
    times = {}
    for run in range(runs):
        document, rows = real_run(folder, "async%d" % run, {"train.epochs": EPOCHS, "seed": run + 1})
        measured = step_times(rows)
        times = measured if run == 0 else times
        real["accuracy"].append(document["accuracy"])
        real["staleness"].append(statistics.mean(row[3] for row in rows))
        real["weight"].append(statistics.mean(row[4] for row in rows))
        print("real run %d: accuracy %.3f, mean staleness %.3f, mean weight %.3f, %d pushes; mean steps %s ms" % (
            run + 1, document["accuracy"], real["staleness"][-1], real["weight"][-1], len(rows),
            ", ".join("%.2f" % (1e3 * statistics.mean(gaps)) for gaps in measured.values())), flush=True)
    summary = simulated(folder, times)
    sim = {"accuracy": summary["accuracy"]["mean"], "staleness": summary["staleness.mean"]["mean"],
           "weight": summary["weight.mean"]["mean"]}
    mean = {key: statistics.mean(values) for key, values in real.items()}
    print("\n| | real, %d runs | simulated, 5 seeds | |\n|---|---|---|---|" % runs)
    print("| final accuracy | %.1f %% | %.1f %% | %+.1f points |" % (
        100 * mean["accuracy"], 100 * sim["accuracy"], 100 * (sim["accuracy"] - mean["accuracy"])))
    print("| mean staleness | %.2f | %.2f | %+.0f %% |" % (
        mean["staleness"], sim["staleness"], 100 * (sim["staleness"] / mean["staleness"] - 1)))
    print("| mean weight | %.3f | %.3f | |\n" % (mean["weight"], sim["weight"]), flush=True)


def race(folder):
    """The time to the target accuracy, async against bsp, each with the best of its learning rates."""
    best = {}
    for mode, rates in RATES.items():
        for rate in rates:
            policy = "polynomial" if mode == "async" else "constant"
            document, rows = real_run(folder, "race", {"train.epochs": EPOCHS, "consistency.mode": mode, "lr.base": rate,
                                                       "staleness.policy": policy})
            seconds = target_time(document, rows)
            print("%s, learning rate %g: accuracy %.3f, %s, %.1f s in all" % (
                mode, rate, document["accuracy"],
                "%.0f %% not reached" % (100 * TARGET) if seconds is None else
                "%.0f %% after %.2f s" % (100 * TARGET, seconds), rows[-1][0] - rows[0][0]), flush=True)
            if seconds is not None:
                best[mode] = min(seconds, best.get(mode, seconds))
    if len(best) == 2:
        print("async reaches %.0f %% in %.2f s, bsp in %.2f s: %.1f times as long" % (
            100 * TARGET, best["async"], best["bsp"], best["bsp"] / best["async"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", help="folder for recordings and step times; a temporary one if left out")
    options = parser.parse_args()
    folder = options.work or tempfile.mkdtemp(prefix="lagoon-reality-")
    os.makedirs(folder, exist_ok=True)
    compare(folder, options.runs)
    race(folder)


if __name__ == "__main__":
    main()
