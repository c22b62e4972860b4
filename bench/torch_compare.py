#!/usr/bin/env python3
"""Lagoon beside PyTorch on one device, in the same run: GPT-2-small, an MLP and a CNN without a server, then the GPT
through a server on this host against its own figure without one.

    bench/torch_compare.py                          GPU 0; needs torch there and `make all benches`
    bench/torch_compare.py --device cpu --quick     a tiny version of everything, to see that it works
    bench/torch_compare.py --parts gpt,server --rounds 5 --json out.json

Both sides get batches of host memory in every step and do forward, backward and an AdamW update; only the device's work
is waited for, at the end. They take turns, `--rounds` times; a ratio is the median over the rounds of ours over theirs.
PyTorch runs eagerly: scaled_dot_product_attention, fused AdamW, bf16 autocast for the GPT. Model FLOPs are 6 for each
parameter of a product and token plus 12 layers width context (Chowdhery et al. 2022, appendix B): embeddings that are
looked up do not count.

Prints Markdown, writes JSON with --json. Exits 2 with one line where something is missing, 1 where a bar is missed on
a GPU.
"""

import argparse
import functools
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build/release")
# Dense bf16 products in TFLOP/s, from NVIDIA's data sheets; the first name that is part of the device's counts.
PEAKS = [("H200", 989), ("H100 PCIe", 756), ("H100", 989), ("A100", 312), ("L40S", 362), ("L4", 121), ("A10", 125)]
BARS = {"gpt": 1.0, "mlp": 1.0, "cnn": 1.0, "server": 0.8}


def missing(text):
    print("torch_compare.py: " + text, file=sys.stderr)
    sys.exit(2)


class Shape:
    """A GPT's, and what follows from it."""

    def __init__(self, layers, width, heads, context, vocabulary, batch):
        self.layers, self.width, self.heads = layers, width, heads
        self.context, self.vocabulary, self.batch = context, vocabulary, batch

    @property
    def flops_per_token(self):
        products = 12 * self.layers * self.width ** 2 + self.width * self.vocabulary
        return 6 * products + 12 * self.layers * self.width * self.context

    def __str__(self):
        return "GPT %d x %d, vocabulary %d, batch %d x %d" % (self.layers, self.width, self.vocabulary, self.batch,
                                                             self.context)


SMALL = Shape(12, 768, 12, 1024, 50304, 8)  # GPT-2 small, with embeddings that are not shared
TINY = Shape(2, 64, 2, 64, 512, 4)

# ---- PyTorch


def torch_gpt(torch, shape):
    """The same model as worker/models/gpt.c."""
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
            self.qkv, self.out = nn.Linear(shape.width, 3 * shape.width), nn.Linear(shape.width, shape.width)
            self.up, self.down = nn.Linear(shape.width, 4 * shape.width), nn.Linear(4 * shape.width, shape.width)

        def forward(self, x):
            rows, time_, width = x.shape
            parts = self.qkv(self.norm1(x)).view(rows, time_, 3, shape.heads, width // shape.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(rows, time_, width))
            return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(shape.vocabulary, shape.width)
            self.positions = nn.Embedding(shape.context, shape.width)
            self.blocks = nn.ModuleList(Block() for _ in range(shape.layers))
            self.norm, self.head = nn.LayerNorm(shape.width), nn.Linear(shape.width, shape.vocabulary, bias=False)

        def forward(self, x):
            x = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)).flatten(0, 1)
    return Gpt()


def torch_mlp(torch):
    nn = torch.nn
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))


def torch_cnn(torch):
    """The same as worker/models/cnn.c with its defaults: ReLU after the pooling."""
    nn = torch.nn
    return nn.Sequential(nn.Conv2d(1, 16, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(16, 32, 5), nn.MaxPool2d(2),
                         nn.ReLU(), nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))


class TorchSubject:
    """A model in training; run() gives steps a second. Kept over the rounds, so that warming up is done once."""

    def __init__(self, torch, device, model, batch, labels, autocast, tf32):
        self.torch, self.device, self.autocast, self.tf32 = torch, device, autocast, tf32
        self.model = model.to(device)
        fused = {"fused": True} if device.startswith("cuda") else {}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0.1, **fused)
        pin = device.startswith("cuda")
        self.batch, self.labels = (x.pin_memory() if pin else x for x in (batch, labels))

    def step(self):
        torch = self.torch
        x = self.batch.to(self.device, non_blocking=True)
        y = self.labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16, enabled=self.autocast):
            loss = torch.nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def wait(self):
        if self.device.startswith("cuda"):
            self.torch.cuda.synchronize(self.device)

    def run(self, seconds):
        self.torch.backends.cuda.matmul.allow_tf32 = self.torch.backends.cudnn.allow_tf32 = self.tf32
        for _ in range(3):
            self.step()
        self.wait()
        began, count, each, spent = time.perf_counter(), 0, 1, 0.0
        while spent < seconds:
            for _ in range(each):
                self.step()
            self.wait()
            count += each
            each = count
            spent = time.perf_counter() - began
        return count / spent


# ---- ours


def lagoon_device(args, device, shape, models, seconds):
    """bench/device; {"gpt" | "mlp" | "cnn": tokens or samples a second}."""
    command = [os.path.join(BUILD, "bench/device"), "--device", device, "--ops", "no", "--seconds", "%g" % seconds,
               "--gpt", "only" if models == "gpt" else "no", "--layers", str(shape.layers), "--width",
               str(shape.width), "--heads", str(shape.heads), "--context", str(shape.context), "--vocabulary",
               str(shape.vocabulary), "--batch", str(shape.batch), "--threads", str(args.threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        missing("`%s` failed: %s" % (" ".join(command), done.stderr.strip() or done.returncode))
    args.device_name = done.stdout.splitlines()[0]
    return {found.group(1): float(found.group(2)) for found in
            re.finditer(r"^(gpt|mlp|cnn)\b.* us +([0-9.]+) (?:tokens|samples)/s", done.stdout, re.M)}


def ours_and_theirs(args, name, ours, theirs, unit):
    """Takes turns; a row of the result."""
    mine, other = [], []
    for number in range(args.rounds):
        mine.append(ours())
        other.append(theirs())
        print("  %s, round %d of %d: %.6g, PyTorch %.6g %s" % (name, number + 1, args.rounds, mine[-1], other[-1], unit),
              file=sys.stderr)
    ratios = [a / b for a, b in zip(mine, other)]
    return {"name": name, "unit": unit, "ours": mine, "torch": other, "ratio": statistics.median(ratios),
            "ratio_low": min(ratios), "ratio_high": max(ratios)}


def compare_gpt(args, torch):
    shape = args.shape
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, shape.vocabulary, (shape.batch, shape.context), generator=generator)
    labels = torch.randint(0, shape.vocabulary, (shape.batch * shape.context,), generator=generator)
    subject = TorchSubject(torch, args.device, torch_gpt(torch, shape), tokens, labels, args.gpu, args.gpu)
    parameters = sum(p.numel() for p in subject.model.parameters())
    device = args.device + ("/bf16" if args.gpu else "")
    row = ours_and_theirs(args, "gpt", lambda: lagoon_device(args, device, shape, "gpt", args.seconds)["gpt"],
                          lambda: subject.run(args.seconds) * shape.batch * shape.context, "tokens/s")
    del subject
    if args.gpu:
        torch.cuda.empty_cache()
    return dict(row, what="%s, %s, %.1f M parameters" % (shape, "bf16" if args.gpu else "f32", parameters / 1e6),
                flops_per_token=shape.flops_per_token)


def compare_images(args, torch):
    """MLP and CNN, with products in f32 and (on GPUs) TF32 on both sides."""
    rows, batch = [], 256
    for math in ("", "/tf32") if args.gpu else ("",):
        for name, make, size in ("mlp", torch_mlp, (batch, 784)), ("cnn", torch_cnn, (batch, 1, 28, 28)):
            subject = TorchSubject(torch, args.device, make(torch), torch.randn(size), torch.randint(0, 10, (batch,)),
                                   False, math != "")
            row = ours_and_theirs(
                args, name, lambda: lagoon_device(args, args.device + math, args.shape, "images", args.seconds)[name],
                lambda: subject.run(args.seconds) * batch, "samples/s")
            rows.append(dict(row, what="%s, batch %d, %s" % (name.upper(), batch, math.strip("/") or "f32")))
    return rows


# ---- through a server


def metrics(cluster, name):
    """{metric with labels: value} of a daemon."""
    with open(cluster.daemons[name].ready_path) as file:
        url = json.load(file)["http"]
    with urllib.request.urlopen(url + "/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}


def samples_of(cluster):
    return sum(value for key, value in metrics(cluster, "worker1").items() if key.startswith("lagoon_worker_samples_"))


def watch(cluster, job, least, seconds):
    """Samples a second between two moments at which the trainer's count rose, the first after two rises, the last
    after `least` more and `seconds`."""
    rises, last, deadline = [], 0.0, time.monotonic() + 500
    while time.monotonic() < deadline:
        count = samples_of(cluster)
        now = time.monotonic()
        if count > last:
            rises.append((now, count))
            last = count
        if len(rises) > 2 + least and rises[-1][0] - rises[2][0] >= seconds:
            return (rises[-1][1] - rises[2][1]) / (rises[-1][0] - rises[2][0])
        if len(rises) % 20 == 0:
            document = cluster.job(job)
            if document["state"] not in ("queued", "initialising", "running"):
                missing("the job is %s: %s" % (document["state"], document["reason"]))
        time.sleep(0.01)
    missing("the job through the server took no %d steps in 500 s" % least)


def run_server(args, shards, accumulate):
    """tokens/s of one worker."""
    sys.path.insert(0, os.path.join(ROOT, "tests/integration"))
    from cluster import Cluster  # here, so that the rest works without it
    shape = args.shape
    device = args.device + ("/bf16" if args.gpu else "")
    keys = {"model.layers": shape.layers, "model.width": shape.width, "model.heads": shape.heads,
            "dataset.context": shape.context, "dataset.vocabulary": shape.vocabulary, "dataset.test_samples": 0,
            "dataset.train_samples": 10 ** 7, "train.batch": shape.batch * accumulate,
            "train.micro_batch": shape.batch, "train.epochs": 1, "lr.base": 1e-4, "lr.schedule": "constant",
            "train.threads": args.threads}
    with Cluster(servers=1, shards=shards, workers=0, dead_after="30s") as cluster:
        cluster.start_worker("worker1", 1, args=["--device=" + device]).ready()
        job = cluster.submit(os.path.join(ROOT, "configs/jobs/gpt2-small.yaml"), **keys)
        rate = watch(cluster, job, args.steps, args.seconds)
        row = cluster.job(job)["trainers"][0]
        cluster.lagoon("cancel", job)
    return rate * shape.context, row


@functools.lru_cache
def update_rate():
    """Parameters a second that one shard updates with adamw, by bench/apply on one core; None without it."""
    program = os.path.join(BUILD, "bench/apply")
    if not os.path.exists(program):
        return None
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    rates = [float(m.group(1)) for m in re.finditer(r"^\| adamw \|.*\| *([0-9.]+) \|$", done.stdout, re.M)]
    return max(rates) * 1e6 if rates else None


def compare_server(args, local):
    """`local`: tokens/s without a server, of this run."""
    rows, shape = [], args.shape
    parameters = 12 * shape.layers * shape.width ** 2 + 2 * shape.width * shape.vocabulary
    for shards in args.shards:
        for accumulate in args.accumulate:
            rate, trainer = run_server(args, shards, accumulate)
            updates = update_rate()
            limit = updates * shards / parameters * accumulate * shape.batch * shape.context if updates else None
            rows.append({"name": "server", "shards": shards, "accumulate": accumulate, "unit": "tokens/s",
                         "ours": rate, "local": local, "ratio": rate / local, "update_limit": limit,
                         "compute_seconds": trainer.get("compute_seconds"),
                         "communication_seconds": trainer.get("communication_seconds"),
                         "transport": trainer.get("transport")})
            print("  server, %d shards, %d pieces a push: %.6g tokens/s" % (shards, accumulate, rate), file=sys.stderr)
    return rows


# ---- the report


def peak_of(args):
    if args.peak:
        return args.peak * 1e12
    return next((1e12 * peak for part, peak in PEAKS if args.gpu and part in args.device_name), None)


def print_table(result):
    peak = result["peak_flops"]
    if any(row["name"] != "server" for row in result["rows"]):
        print("\n| what | Lagoon | PyTorch | ratio (least, most) | bar |\n|---|---:|---:|---:|---:|")
    for row in result["rows"]:
        if row["name"] == "server":
            continue
        ours, torch_ = statistics.median(row["ours"]), statistics.median(row["torch"])
        print("| %s, %s | %.6g | %.6g | %.3f (%.3f, %.3f) | %.1f |" % (
            row["what"], row["unit"], ours, torch_, row["ratio"], row["ratio_low"], row["ratio_high"],
            BARS[row["name"]]))
        if "flops_per_token" in row:
            def share(tokens):
                flops = tokens * row["flops_per_token"]
                return "%.1f TFLOP/s%s" % (flops / 1e12, ", %.1f %%" % (100 * flops / peak) if peak else "")
            print("| its model FLOPs%s | %s | %s | | |" % (
                ", of %.0f TFLOP/s" % (peak / 1e12) if peak else "", share(ours), share(torch_)))
    servers = [row for row in result["rows"] if row["name"] == "server"]
    if servers:
        print("\n%s, bf16 codec: %.6g tokens/s without a server.\n" % (result["shape"], servers[0]["local"]))
        print("| through a server: shards | pieces a push | tokens/s | of its own without a server | updates alone "
              "allow | bar |\n|---:|---:|---:|---:|---:|---:|")
    for row in servers:
        print("| %d | %d | %.6g | %.3f | %s | %.1f |" % (
            row["shards"], row["accumulate"], row["ours"], row["ratio"],
            "%.6g" % row["update_limit"] if row["update_limit"] else "", BARS["server"]))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu with --quick")
    parser.add_argument("--quick", action="store_true", help="a tiny GPT and little time: shows that all of it works")
    parser.add_argument("--parts", default="gpt,images,server", help="which of %(default)s")
    parser.add_argument("--rounds", type=int, default=0, help="turns of each side (default 5, 2 with --quick)")
    parser.add_argument("--seconds", type=float, default=0, help="of each turn (default 3, 0.3 with --quick)")
    parser.add_argument("--steps", type=int, default=0, help="pushes watched through the server (default 8)")
    parser.add_argument("--shards", default="", help="comma-separated (default 1,2 and half the cores)")
    parser.add_argument("--accumulate", default="", help="pieces a push, comma-separated (default 1,4,16)")
    parser.add_argument("--threads", type=int, default=0, help="of Lagoon on a CPU; 0: all cores")
    parser.add_argument("--peak", type=float, default=0, help="the device's bf16 TFLOP/s, where it is not known here")
    parser.add_argument("--json", default="", help="file for all figures")
    args = parser.parse_args()
    args.parts = set(args.parts.split(","))
    if args.parts - {"gpt", "images", "server"}:
        parser.error("--parts: there are gpt, images and server")
    half = max(1, (os.cpu_count() or 2) // 2)
    args.gpu = args.device.startswith("cuda")
    args.shape = TINY if args.quick else SMALL
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.seconds = args.seconds or (0.3 if args.quick else 3)
    args.steps = args.steps or 8
    args.shards = [int(n) for n in args.shards.split(",")] if args.shards else sorted({1, min(2, half), half})
    args.accumulate = [int(n) for n in (args.accumulate or ("1,2" if args.quick else "1,4,16")).split(",")]
    return args


def find_torch(args):
    """torch, or None where only the server is asked for; exits where something is missing."""
    for program in "bench/device", "bin/lagoon-worker":
        if not os.path.exists(os.path.join(BUILD, program)):
            missing("build/release/%s is missing: run `make all benches`" % program)
    if not args.gpu and not args.quick:
        missing("--device cpu goes with --quick alone: the full shape takes hours there")
    try:
        import torch
    except ImportError as problem:
        if args.parts == {"server"}:
            return None
        missing("PyTorch is not here (%s): `pip install torch`, or run this where it is" % problem)
    if args.gpu and not torch.cuda.is_available():
        missing("PyTorch sees no GPU: run this on a machine with one, or --device cpu --quick")
    return torch


def main():
    args = parse_arguments()
    torch = find_torch(args)
    if not args.gpu:
        args.threads = args.threads or os.cpu_count() or 1
    if torch:
        torch.manual_seed(1)
        torch.set_num_threads(args.threads or os.cpu_count() or 1)
    rows = []
    if "gpt" in args.parts:
        rows.append(compare_gpt(args, torch))
    if "images" in args.parts:
        rows += compare_images(args, torch)
    if "server" in args.parts:
        local = [statistics.median(row["ours"]) for row in rows if row["name"] == "gpt"]
        device = args.device + ("/bf16" if args.gpu else "")
        if not local:
            local = [statistics.median(lagoon_device(args, device, args.shape, "gpt", args.seconds)["gpt"]
                                       for _ in range(min(args.rounds, 3)))]
        rows += compare_server(args, local[0])
    result = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "command": " ".join(sys.argv),
              "device": args.device_name, "torch": torch.__version__ if torch else None,
              "cuda": torch.version.cuda if torch else None,
              "cores": os.cpu_count(), "shape": str(args.shape), "peak_flops": peak_of(args), "rows": rows}
    print("%s; PyTorch %s, CUDA %s; %d cores; %s; `%s`" % (
        result["device"], result["torch"], result["cuda"], result["cores"], result["date"], result["command"]))
    print_table(result)
    if args.quick:
        print("\nThis was --quick: it shows that everything works, and no speed.")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)
    # Of the server's rows one has to do: the bar lets the accumulation be chosen.
    short = [row["name"] for row in rows if row["name"] != "server" and row["ratio"] < BARS[row["name"]]]
    servers = [row["ratio"] for row in rows if row["name"] == "server"]
    if servers and max(servers) < BARS["server"]:
        short.append("server")
    if short and not args.quick:
        print("\nbars missed: " + ", ".join(short))
    return 1 if short and args.gpu and not args.quick else 0


if __name__ == "__main__":
    sys.exit(main())
