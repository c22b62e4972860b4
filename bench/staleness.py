"""Runs the experiments of docs/staleness.md and fills in its tables.

    python3 bench/staleness.py [e1] [e2] [e3] [e4] [--again] [--work DIR]

Results are kept as JSON in DIR (build/staleness) and used again unless --again is given; plots go to docs/plots/.
"""

import argparse
import json
import math
import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LAGOON = os.path.join(ROOT, os.environ.get("BUILD", "build/release"), "bin", "lagoon")
PAGE = os.path.join(ROOT, "docs", "staleness.md")


def run(options, name, plot=False):
    """The document of configs/experiments/NAME.yaml."""
    out = os.path.join(options.work, name + ".json")
    if options.again or not os.path.exists(out):
        os.makedirs(options.work, exist_ok=True)
        command = [LAGOON, "sim", "configs/experiments/%s.yaml" % name, "--json", out]
        if plot:
            os.makedirs(os.path.join(ROOT, "docs", "plots"), exist_ok=True)
            command += ["--plot", "docs/plots/%s.svg" % name]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    with open(out) as file:
        return json.load(file)["cells"]


def of(cell, key):
    return cell["summary"][key]["mean"]


def points(cell, key="accuracy"):
    """An accuracy with its interval, in per cent."""
    entry = cell["summary"][key]
    text = "%.1f" % (100 * entry["mean"])
    if entry["interval"] is not None:
        text += " ± %.1f" % (100 * entry["interval"])
    if cell["summary"]["diverged"]:
        text += " (%d of %d diverged)" % (cell["summary"]["diverged"], cell["summary"]["runs"])
    return text


def number(cell, key, form="%.3f"):
    value = of(cell, key)
    return "-" if value is None or not math.isfinite(value) else form % value


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def rate(cell):
    return float(cell["keys"].get("lr.base") or of(cell, "learning_rate"))


def verdict(met, text):
    return "- **%s**: %s" % ("met" if met else "not met", text)


def write(name, text):
    with open(PAGE) as file:
        page = file.read()
    begin, end = "<!-- %s -->\n" % name, "<!-- /%s -->" % name
    page = page[:page.index(begin) + len(begin)] + text.strip() + "\n" + page[page.index(end):]
    with open(PAGE, "w") as file:
        file.write(page)


def label(cell):
    return cell["label"].split(",")[0]


# ---- the experiments

def e1(options):
    sync = run(options, "e1-sync")
    best = max(sync, key=lambda cell: of(cell, "accuracy"))
    cells = {label(cell): cell for cell in run(options, "e1", plot=True)}
    used = rate(cells["30-plain"])
    rows = [[str(n), names, points(cell), number(cell, "staleness.mean", "%.2f"), number(cell, "weight.mean")]
            for n in (4, 8, 16, 30)
            for names, cell in (("none", cells["%d-plain" % n]), ("inverse", cells["%d-inverse" % n]),
                                ("none, in turns", cells["%d-in-turns" % n]),
                                ("none, rate × mean weight", cells["%d-mean-weight" % n]))]
    text = "`lagoon sim configs/experiments/e1-sync.yaml`: one worker, batch 128.\n\n"
    text += table(["rate", "accuracy %"], [["%g" % rate(cell), points(cell)] for cell in sync])
    text += "\n\nBest at %g. `lagoon sim configs/experiments/e1.yaml` at %g:\n\n" % (rate(best), used)
    text += table(["workers", "weights", "accuracy %", "mean staleness", "mean weight"], rows)
    reference, plain, inverse = of(best, "accuracy"), of(cells["30-plain"], "accuracy"), of(cells["30-inverse"], "accuracy")
    staleness = of(cells["30-inverse"], "staleness.mean")
    text += "\n\n" + "\n".join([
        verdict(used == rate(best), "the rate is the one tuned for a batch of 128"),
        verdict(plain < 0.5 * reference, "30 workers without weights collapse (%.1f %%)" % (100 * plain)),
        verdict(inverse > reference - 0.01, "inverse weights with 30 workers come to %.1f %%, %.1f points from the synchronous %.1f %%"
                % (100 * inverse, 100 * (reference - inverse), 100 * reference)),
        verdict(abs(staleness - 30) < 3, "the mean staleness of 30 workers is %.2f" % staleness)])
    write("e1", text + "\n\n" + read_note("e1") + "\n\n![E1](plots/e1.svg)")


def by_policy(cells):
    policies = {}
    for cell in cells:
        policies.setdefault(label(cell), []).append(cell)
    return policies


def largest_good(cells):
    """The largest rate within 2 points of the best."""
    best = max(of(cell, "accuracy") for cell in cells)
    return max(rate_of_grid(cell) for cell in cells if of(cell, "accuracy") >= best - 0.02)


def rate_of_grid(cell):
    return float(cell["varied"]["lr.base"])


def e2(options):
    policies = by_policy(run(options, "e2", plot=True))
    rates = [rate_of_grid(cell) for cell in policies["in-turns"]]
    star = max(policies["in-turns"], key=lambda cell: of(cell, "accuracy"))
    eta = rate_of_grid(star)
    rows = []
    for name, cells in policies.items():
        best = max(cells, key=lambda cell: of(cell, "accuracy"))
        rows.append([name] + ["%.1f" % (100 * of(cell, "accuracy")) for cell in cells]
                    + ["%s at %g" % (points(best), rate_of_grid(best)), "%g" % largest_good(cells),
                       number(cells[0], "weight.mean")])
    text = "`lagoon sim configs/experiments/e2.yaml`. Accuracy % by learning rate:\n\n"
    text += table(["policy"] + ["%g" % r for r in rates] + ["best", "largest within 2 points", "mean weight"], rows)
    at_star = {name: of(next(c for c in cells if rate_of_grid(c) == eta), "accuracy") for name, cells in policies.items()}
    weighted = {name: value for name, value in at_star.items() if name not in ("in-turns", "constant", "mean-weight")}
    winner = max(weighted, key=weighted.get)
    plain = largest_good(policies["constant"])
    grows = {name: largest_good(cells) / plain for name, cells in policies.items() if name in weighted}
    widest = max(grows, key=grows.get)
    stale = of(policies["constant"][0], "staleness.mean")
    text += "\n\nη* is %g, where in turns gives %.1f %%. The mean staleness is %.1f.\n\n" % (eta, 100 * at_star["in-turns"], stale)
    text += "\n".join([
        verdict(at_star["in-turns"] - at_star["constant"] >= 0.2, "at η* training without weights loses %.1f points"
                % (100 * (at_star["in-turns"] - at_star["constant"]))),
        verdict(at_star["in-turns"] - weighted[winner] <= 0.05, "at η* %s loses %.1f points" %
                (winner, 100 * (at_star["in-turns"] - weighted[winner]))),
        verdict(grows[widest] >= 4, "the largest rate within 2 points of its own best is %g times that of no weights with %s; %s" % (
            grows[widest], widest, ", ".join("%s %g" % (name, value) for name, value in sorted(grows.items()) if name != widest)))])
    momentum = {}
    for cell in run(options, "e2-momentum"):
        momentum.setdefault((float(cell["varied"]["updater.beta"]), label(cell)), []).append(cell)
    rates = [rate_of_grid(cell) for cell in next(iter(momentum.values()))]
    text += "\n\n`lagoon sim configs/experiments/e2-momentum.yaml`:\n\n"
    text += table(["beta", "policy"] + ["%g" % r for r in rates] + ["best"], [
        ["%g" % beta, name] + ["%.1f" % (100 * of(cell, "accuracy")) for cell in cells]
        + [points(max(cells, key=lambda cell: of(cell, "accuracy")))]
        for (beta, name), cells in sorted(momentum.items())])
    write("e2", text + "\n\n" + read_note("e2") + "\n\n![E2](plots/e2.svg)")


def e3(options):
    cells = {label(cell): cell for cell in run(options, "e3-injected")}
    rows, worst = [], {}
    for policy in ("constant", "polynomial", "cutoff"):
        a, b = cells["without-" + policy], cells["with-" + policy]
        moved = max(abs(y["loss"] / x["loss"] - 1) for x, y in zip(a["runs"], b["runs"]))
        worst[policy] = moved
        rows.append([policy, "%.4f" % of(a, "loss"), "%.4f" % of(b, "loss"), "%.2f %%" % (100 * moved),
                     number(b, "staleness.max", "%.0f")])
    text = "`lagoon sim configs/experiments/e3-injected.yaml`:\n\n"
    text += table(["policy", "loss without", "loss with the old gradient", "most moved, over the seeds", "largest staleness"], rows)
    text += "\n\n" + verdict(max(worst["polynomial"], worst["cutoff"]) < 0.05,
                             "it moves the final loss by at most %.2f %% with weights or a cutoff"
                             % (100 * max(worst["polynomial"], worst["cutoff"])))
    best = {}
    for cell in run(options, "e3-time"):
        key, seconds = (cell["varied"]["sim.workers"], label(cell)), of(cell, "target_s")
        whole = cell["summary"]["target_s"]["runs"] == cell["summary"]["runs"]
        if whole and (key not in best or seconds < best[key][0]):
            best[key] = (seconds, rate_of_grid(cell))
    machines = sorted({key[0] for key in best}, key=len)
    text += "\n\n`lagoon sim configs/experiments/e3-time.yaml`: simulated seconds to 48 % accuracy, each mode with its best rate.\n\n"
    text += table(["machines", "bsp", "async", "bsp / async"], [
        [m, "%.0f at %g" % best[m, "bsp"], "%.0f at %g" % best[m, "async"], "%.1f" % (best[m, "bsp"][0] / best[m, "async"][0])]
        for m in machines])
    text += "\n\n" + verdict(all(best[m, "bsp"][0] > best[m, "async"][0] for m in machines if "x5" in m or "x20" in m),
                             "async reaches it first where the slowest takes 5 times as long, or more")
    write("e3", text + "\n\n" + read_note("e3"))


def e4(options):
    policies = by_policy(run(options, "e4", plot=True))
    rates = [rate_of_grid(cell) for cell in policies["sync"]]
    text = "`lagoon sim configs/experiments/e4.yaml`. Test loss by outer rate:\n\n"
    text += table(["updater"] + ["%g" % r for r in rates], [
        [name] + ["%.3f ± %.3f" % (of(c, "loss"), c["summary"]["loss"]["interval"]) for c in cells]
        for name, cells in policies.items()])
    eta = rate_of_grid(min(policies["sync"], key=lambda cell: of(cell, "loss")))
    at = {name: of(next(c for c in cells if rate_of_grid(c) == eta), "loss") for name, cells in policies.items()}
    gap = at["nesterov"] - at["sync"]
    closed = (at["nesterov"] - at["delayed"]) / gap if gap > 0 else float("nan")
    text += "\n\n" + "\n".join([
        verdict(gap > 0, "at %g, the best rate of synchronous Nesterov, asynchronous Nesterov's loss is higher by %.3f" % (eta, gap)),
        verdict(closed >= 0.8, "delayed Nesterov closes %.0f %% of the gap" % (100 * closed))])
    write("e4", text + "\n\n" + read_note("e4") + "\n\n![E4](plots/e4.svg)")


def read_note(name):
    """What a person wrote about a result stays: from a line "What this says" on, up to the picture."""
    with open(PAGE) as file:
        page = file.read()
    section = page[page.index("<!-- %s -->" % name):page.index("<!-- /%s -->" % name)]
    found = re.search(r"^What this says.*?(?=^!\[|\Z)", section, re.M | re.S)
    return found.group(0).strip() if found else "What this says:"


EXPERIMENTS = {"e1": e1, "e2": e2, "e3": e3, "e4": e4}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", nargs="*", choices=[[], *EXPERIMENTS], default=[])
    parser.add_argument("--again", action="store_true", help="run also what was run before")
    parser.add_argument("--work", default=os.path.join(ROOT, "build", "staleness"), help="folder for results")
    options = parser.parse_args()
    for name in options.which or EXPERIMENTS:
        EXPERIMENTS[name](options)


if __name__ == "__main__":
    main()
