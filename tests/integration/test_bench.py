"""lagoon bench: that it measures what it says and writes it down; how fast anything is does not matter here."""

import json
import math
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

from cluster import BIN, ROOT, SLOW

LAGOON = os.path.join(BIN, "lagoon")
SMALL = ["--quick", "--tensor=256KiB", "--rounds=2", "--seconds=0.002"]


def bench(*args):
    return subprocess.run([LAGOON, "bench", *SMALL, *args], capture_output=True, text=True, timeout=300 * SLOW, cwd=ROOT)


class Bench(unittest.TestCase):
    def check_ratio(self, name, ratio, figures):
        self.assertEqual(len(ratio["rounds"]), 2, name)
        self.assertTrue(math.isfinite(ratio["value"]) and ratio["value"] > 0, name)
        if ratio["bar"] is None:
            self.assertIsNone(ratio["met"], name)
        elif ratio["sense"] == "at most":
            self.assertEqual(ratio["met"], ratio["value"] <= ratio["bar"], name)
        else:
            self.assertEqual(ratio["met"], ratio["value"] >= ratio["bar"], name)
        above, below = figures[ratio["above"]], figures[ratio["below"]]
        for value, over, under in zip(ratio["rounds"], above["rounds"], below["rounds"]):
            self.assertAlmostEqual(value, over / under, places=4)

    def test_document_and_plot(self):
        with tempfile.TemporaryDirectory() as folder:
            file, plot = os.path.join(folder, "bench.json"), os.path.join(folder, "bench.svg")
            done = bench("--filter=tensor,round trips,kernels", "--json", file, "--plot", plot)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(file) as text:
                document = json.load(text)
            self.assertIn("svg", xml.etree.ElementTree.parse(plot).getroot().tag)
        figures, ratios = document["figures"], document["ratios"]
        self.assertEqual(document["tensor_bytes"], 256 << 10)
        for figure in ("limit.memcpy.256KiB", "limit.tcp.256KiB", "limit.zmq.push.256KiB", "tcp.push.256KiB",
                       "ipc.pushpull.256KiB", "shm.push.256KiB", "shm.pushpull.256KiB.2workers", "tcp.roundtrip.p99",
                       "tcp.push.256KiB.cpu", "tcp.pushpull.1000x4KiB", "limit.kernel.adam", "shard.adam"):
            self.assertGreater(figures[figure]["median"], 0, figure)
            self.assertIn(figure, done.stdout)
        measured = {name: ratio for name, ratio in ratios.items() if ratio["value"] is not None}
        for name, ratio in measured.items():
            self.check_ratio(name, ratio, figures)
        self.assertGreaterEqual(len(measured), 13)
        for name in set(ratios) - set(measured):
            self.assertRegex(name, "int8|communication")
            self.assertIsNone(ratios[name]["met"])

    def test_filter_and_check(self):
        done = bench("--filter=shard.sgd", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        document = json.loads(done.stdout)
        self.assertEqual(sorted(document["figures"]),
                         ["limit.kernel.adam", "limit.kernel.momentum", "limit.kernel.sgd", "shard.sgd", "shard.sgd.validated"])
        done = bench("--filter=shard.sgd", "--check")
        self.assertEqual(done.returncode, 1)
        self.assertIn("not every ratio", done.stderr)

    def test_slips(self):
        done = bench("out.json")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--json FILE", done.stderr)
        done = bench("--filter=shard.sgd", "--json", "/nowhere/out.json")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere/out.json", done.stderr)


class TorchCompare(unittest.TestCase):
    def test_what_is_missing_is_said_in_one_line(self):
        script = os.path.join(ROOT, "bench/torch_compare.py")
        done = subprocess.run([sys.executable, script, "--device", "cuda:999"], capture_output=True, text=True,
                              timeout=120 * SLOW, env=dict(os.environ, CUDA_VISIBLE_DEVICES=""))
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertRegex(done.stderr, r"\Atorch_compare.py: [^\n]*\n\Z")
        self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
