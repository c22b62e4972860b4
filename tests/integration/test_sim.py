"""`lagoon sim`: the command, from the experiment's file to table, JSON and SVG."""

import json
import os
import signal
import subprocess
import tempfile
import time
import unittest
import xml.dom.minidom

LAGOON = os.path.join(os.environ["LAGOON_BIN"], "lagoon")
ROOT = os.environ["LAGOON_ROOT"]

SMALL = """model: {kind: mlp, hidden: [16]}
dataset: {kind: mixture, train_samples: 1600, test_samples: 200, features: 16}
train: {batch: 16, epochs: 2}
lr.base: 0.05
sim: {workers: "2x1, 1x4", seeds: [1, 2], evaluate.every: 400, target: 0.05}
variants:
  plain: {staleness.policy: constant}
  weighted: {staleness.policy: inverse}
grid.lr.base: [0.05, 0.1]
"""


class Sim(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, text):
        with open(self.path("x.yaml"), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path("x.yaml")

    def sim(self, *arguments, code=0):
        done = subprocess.run([LAGOON, "sim", *arguments], capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def test_a_grid(self):
        done = self.sim(self.write(SMALL), "--plot", self.path("x.svg"), "--json", self.path("x.json"))
        for label in ("plain, lr 0.05", "plain, lr 0.1", "weighted, lr 0.05", "weighted, lr 0.1"):
            self.assertIn(label, done.stdout)
        self.assertEqual(done.stderr.count(" of 8: "), 8)
        with open(self.path("x.json"), encoding="utf-8") as file:
            document = json.load(file)
        self.assertEqual([len(cell["runs"]) for cell in document["cells"]], [2, 2, 2, 2])
        run = document["cells"][2]["runs"][0]
        self.assertEqual(run["status"], "ok")
        self.assertEqual(run["samples"], 3200)
        self.assertEqual(sum(bin[2] for bin in run["staleness"]["histogram"]), run["pushes"])
        self.assertEqual(sum(run["weight"]["histogram"]), run["pushes"])
        self.assertGreaterEqual(len(run["detail"]["curve"]), 8)
        self.assertEqual(document["cells"][0]["summary"]["accuracy"]["runs"], 2)
        xml.dom.minidom.parse(self.path("x.svg"))

    def test_processes_do_not_matter(self):
        documents = []
        for jobs in ("1", "3"):
            document = json.loads(self.sim(self.write(SMALL), "--json", "--jobs", jobs).stdout)
            for cell in document["cells"]:
                for run in cell["runs"]:
                    run["detail"].pop("wall_s")
            documents.append(document)
        self.assertEqual(documents[0], documents[1])

    def test_what_is_wrong_is_said_before_anything_runs(self):
        for extra, expected in (
            ("sim.loss.evry: 3\n", 'x.yaml:10:16: unknown key "sim.loss.evry"; did you mean "sim.loss.every"?'),
            ("grid.train.batch: [16, many]\n", '"train.batch" must be an integer'),
            ("variants.other: 3\n", "should set keys"),
            ("grid.sim.workers: [4y2]\n", '"4y2" is no class of workers'),
            ("sim.step.trace: nothing\n", "set sim.step.distribution to trace"),
            ("sim.network.delay: [1, 2, 3]\n", "3 numbers for 2 classes"),
            ("variants.turns: {sim.sequential: yes, consistency.mode: bsp, staleness.policy: constant}\n", "take turns"),
        ):
            done = self.sim(self.write(SMALL + extra), code=2)
            self.assertIn(expected, done.stderr)
            self.assertEqual(done.stdout, "")

    def test_a_run_that_fails_is_named(self):
        done = self.sim(self.write(SMALL), "sim.step.distribution=trace", "sim.step.trace=/nowhere", code=1)
        self.assertIn("/nowhere", done.stderr)

    def test_an_interruption_shows_what_is_done(self):
        text = SMALL.replace("epochs: 2", "epochs: 100000").replace("grid.lr.base: [0.05, 0.1]", "")
        with subprocess.Popen(
            [LAGOON, "sim", self.write(text), "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        self.assertIn("interrupted", err)
        self.assertIn("weighted", out)

    def test_the_example_runs(self):
        done = self.sim(os.path.join(ROOT, "configs", "experiments", "example.yaml"), "sim.seeds=1", "train.epochs=1")
        self.assertIn("mean-weight", done.stdout)


if __name__ == "__main__":
    unittest.main()
