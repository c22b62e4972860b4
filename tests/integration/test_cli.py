"""The command line as a person and a script use it."""

import glob
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest

from cluster import BIN, ROOT, SLOW, Cluster, alive, wait_until

LAGOON = os.path.join(BIN, "lagoon")


def lagoon(*args, **keywords):
    return subprocess.run([LAGOON, *args], capture_output=True, text=True, timeout=120 * SLOW, cwd=ROOT, **keywords)


class Basics(unittest.TestCase):
    def test_help_of_every_command(self):
        overview = lagoon("--help")
        self.assertEqual(overview.returncode, 0)
        names = [line.split("  ")[1] for line in overview.stdout.split("\n") if line.startswith("  ")]
        self.assertGreater(len(names), 15)
        for name in names:
            done = lagoon(*name.split(), "--help")
            self.assertEqual(done.returncode, 0, name)
            self.assertIn("usage: lagoon " + name, done.stdout)
        for topic in ("models", "datasets", "updaters", "policies", "keys", "exit-codes"):
            self.assertEqual(lagoon("help", topic).returncode, 0)

    def test_slips(self):
        for args, word in ((["sumbit"], "submit"), (["jobs", "--jsno"], "json"), (["job"], "usage"),
                           (["submit", "/nowhere.yaml"], "/nowhere.yaml"), (["submit", "train.epoch=3"], "train.epochs")):
            done = lagoon(*args, "--coordinator=127.0.0.1:1") if args[0] != "sumbit" else lagoon(*args)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(word, done.stderr)
            self.assertEqual(len(done.stderr.strip().split("\n")), 1, done.stderr)

    def test_nobody_answers(self):
        done = lagoon("jobs", "--coordinator=127.0.0.1:1")
        self.assertEqual(done.returncode, 3)
        self.assertIn("lagoon up", done.stderr)

    def test_every_configuration_file(self):
        files = sorted(glob.glob(os.path.join(ROOT, "configs/**/*.yaml"), recursive=True))
        self.assertGreater(len(files), 5)
        done = lagoon("config", "check", *files)
        self.assertEqual(done.returncode, 0, done.stderr)
        for file in files:
            name = os.path.basename(file)
            kind = {"coordinator.yaml": "server", "server.yaml": "server", "worker.yaml": "worker"}.get(name, "job")
            kind = "experiment" if "experiments" in file else kind
            self.assertRegex(done.stdout, "%s: nothing wrong, as an? %s file" % (re.escape(file), kind))

    def test_shown_configuration_is_right(self):
        for kind in ("server", "worker", "job"):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(lagoon("config", "show", kind).stdout)
                file.flush()
                done = lagoon("config", "check", "--as", kind, file.name)
                self.assertEqual(done.returncode, 0, done.stderr)


    def test_values_in_place_of_sections(self):
        for line, said in (("model: mlp", 'x.yaml:1:8: "model" has keys of its own; did you mean "model: {kind: mlp}"?'),
                           ("updater: adam", 'did you mean "updater: {kind: adam}"?'),
                           ("local: {updater: adamw}", 'did you mean "local.updater: {kind: adamw}"?'),
                           ("lr: 0.1", 'did you mean "lr: {base: 0.1}"?'),
                           ("push: int8", 'did you mean "push: {codec: int8}"?'),
                           ("http: 9000", 'did you mean "http: {port: 9000}"?'),
                           ("slots: 2\nhttp: 9000", 'did you mean "http: {port: 9000}"?')):
            with tempfile.TemporaryDirectory() as dir:
                path = os.path.join(dir, "x.yaml")
                with open(path, "w") as file:
                    file.write(line + "\n")
                done = lagoon("config", "check", path)
                self.assertEqual(done.returncode, 2, line)
                self.assertIn(said, done.stderr)
        done = lagoon("submit", "updater=adam")
        self.assertEqual(done.returncode, 2)
        self.assertIn('argument: "updater" has keys of its own; did you mean "updater.kind=adam"?', done.stderr)


class UpAndDown(unittest.TestCase):
    def test_local_cluster(self):
        with tempfile.TemporaryDirectory() as dir:
            state = "--state_dir=" + os.path.join(dir, "state")
            done = lagoon("up", state, "--workers=1")
            self.assertEqual(done.returncode, 0, done.stderr)
            try:
                again = lagoon("up", state)
                self.assertNotEqual(again.returncode, 0)
                self.assertIn("lagoon down", again.stderr)
                for command in ("status", "jobs", "workers", "shards", "stats"):
                    self.assertEqual(lagoon(command, state).returncode, 0, command)
                    json.loads(lagoon(command, state, "--json").stdout)
                self.assertEqual(lagoon("doctor", state).returncode, 0)
                done = lagoon("submit", "configs/jobs/glyphs-cnn.yaml", "model.kind=softmax", "train.epochs=1",
                              "dataset.train_samples=1000", "dataset.test_samples=100", "--follow", state)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertNotIn("\033", done.stdout)
                self.assertIn("finished", done.stdout)
                self.assertIn("trainer", lagoon("logs", "glyphs-cnn", state).stdout)
                self.assertIn("history", lagoon("job", "glyphs-cnn", state).stdout)
                self.assertEqual(lagoon("job", "nobody", state).returncode, 7)
            finally:
                with open(os.path.join(dir, "state/cluster.json")) as file:
                    members = json.load(file)["members"]
                self.assertEqual(lagoon("down", state).returncode, 0)
            for member in members:
                self.assertFalse(alive(member["pid"]), member)
            self.assertEqual(lagoon("down", state).returncode, 0)


class Cancel(unittest.TestCase):
    def test_cancel_and_wait(self):
        with Cluster(workers=1) as cluster:
            keys = {"model.kind": "softmax", "dataset.kind": "glyphs", "train.epochs": 1000}
            job = cluster.submit(**keys)
            cluster.wait_for(job, lambda d: d["samples_applied"] > 0, 30, "it trains")
            cluster.lagoon("wait", job, "--timeout=300ms", expect=6)
            cluster.lagoon("cancel", job)
            cluster.lagoon("wait", job, expect=5)
            wait_until(lambda: all(not shard["jobs"] for shard in cluster.json("shards")), 10, "the shards are empty")
            queued = cluster.submit(name="again", **keys)
            cluster.lagoon("cancel", queued)
            self.assertEqual(cluster.job(queued)["state"], "cancelled")


class Demo(unittest.TestCase):
    def children_of(self, parent):
        pids = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path) as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                pids.append(int(path.split("/")[2]))
        return pids

    def test_demo(self):
        with tempfile.TemporaryDirectory() as dir:
            model = os.path.join(dir, "model.safetensors")
            began = time.monotonic()
            done = lagoon("demo", "--output", model)
            seconds = time.monotonic() - began
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertTrue(os.path.exists(model))
            for word in ("test accuracy", "kill -9", "taken back", "slices taken over", "staleness", "/metrics",
                         "exactly once on every shard"):
                self.assertIn(word, done.stdout)
            self.assertLess(seconds, 60 * SLOW)

    def test_interrupted_demo_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as dir:
            process = subprocess.Popen([LAGOON, "demo", "--output", os.path.join(dir, "model")], cwd=ROOT,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                       start_new_session=True)
            children = wait_until(lambda: len(self.children_of(process.pid)) >= 5 and self.children_of(process.pid),
                                  30, "the demo has started its daemons")
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30 * SLOW)
            self.assertEqual(process.returncode, 130, output)
            for pid in children:
                self.assertFalse(alive(pid), output)


if __name__ == "__main__":
    unittest.main()
