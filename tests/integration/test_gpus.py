"""Workers with GPUs, one and several, alone and beside workers on CPUs. The GPUs are emulated (tests/gpu/emulate.h): real
daemons, the CUDA backend's own code, and no GPU."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from cluster import EMULATED, SLOW, Cluster, alive, check_exact, wait_until, with_gpus

SAMPLES = 3000
JOB = {"model.kind": "mlp", "model.hidden": "16", "updater.kind": "momentum", "lr.base": 0.02, "train.batch": 16,
       "train.threads": 1, "lease.duration": "500ms", "dataset.kind": "mixture", "dataset.features": 16,
       "dataset.classes": 4, "dataset.components": 8, "dataset.spread": 1.5, "dataset.train_samples": SAMPLES,
       "dataset.test_samples": 400}


def trainer_pids(daemon):
    """The trainer processes below an agent."""
    with open("/proc/%d/task/%d/children" % (daemon.pid, daemon.pid)) as file:
        return [int(word) for word in file.read().split()]


def running(document):
    """{device without its description: row} of the trainers that have joined and not ended (those have no transport)."""
    return {row["device"].split(",")[0]: row for row in document["trainers"]
            if ", emulated GPU" in row["device"] and "transport" in row}


def histogram(text, **labels):
    """[(upper limit, count up to it)] of lagoon_worker_staleness or another histogram in OpenMetrics `text`."""
    buckets = []
    for line in text.splitlines():
        found = re.match(r'lagoon_worker_staleness_bucket\{(.*)le="([^"]+)"\} (\d+)', line)
        if found and all('%s="%s"' % item in found.group(1) for item in labels.items()):
            buckets.append((float(found.group(2).replace("+Inf", "inf")), int(found.group(3))))
    return buckets


@unittest.skipUnless(os.path.exists(os.path.join(EMULATED, "lib/lagoon/lagoon-cuda.so")),
                     "no emulated GPUs in this build (they need g++ on x86-64, and fibers)")
class Gpus(unittest.TestCase):
    def start(self, gpus, *args, slots=0):
        """A cluster of one worker that has so many GPUs."""
        cluster = Cluster(shards=2, workers=0).__enter__()
        self.addCleanup(self.stop, cluster)
        cluster.start_worker("gpus", slots, gpus=gpus, args=args).ready()
        return cluster

    def stop(self, cluster):
        failed = any(error for _, error in getattr(self._outcome, "errors", ())) or not self._outcome.success
        cluster.__exit__(AssertionError if failed else None, None, None)

    def finish(self, cluster, job):
        document = cluster.wait(job)
        self.assertEqual(document["state"], "finished")
        check_exact(self, document, SAMPLES)
        return document

    def both_run(self, cluster, job):
        return running(cluster.wait_for(job, lambda d: len(running(d)) == 2, 30, "a trainer on each GPU"))

    def test_auto_takes_all_gpus_and_gives_each_trainer_its_own(self):
        cluster = self.start(2)
        worker, = cluster.json("workers")
        self.assertEqual((worker["devices"], worker["slots"]), (["cuda:0", "cuda:1"], 2))
        job = cluster.submit(**{**JOB, "train.epochs": 4})
        rows = self.both_run(cluster, job)
        self.assertEqual(sorted(rows), ["cuda:0", "cuda:1"])
        document = self.finish(cluster, job)
        self.assertGreater(document["accuracy"], 0.9)
        self.assertEqual(document["restarts"], 0)

    def test_a_gpu_that_is_too_old_is_not_offered(self):
        os.environ["LAGOON_EMULATED_OLD"] = "1"
        try:
            cluster = self.start(3)
        finally:
            del os.environ["LAGOON_EMULATED_OLD"]
        worker, = cluster.json("workers")
        self.assertEqual((worker["devices"], worker["slots"]), (["cuda:0"], 1))

    def test_jobs_one_after_the_other_share_the_gpus(self):
        """The second job's trainer gets the GPU that the first's, long at work, does not have."""
        cluster = self.start(2, "--device=auto/bf16")
        keys = {**JOB, "workers": 1, "train.epochs": 500}
        first = cluster.submit(name="first", **keys)
        cluster.wait_for(first, lambda d: d["samples_applied"] > 0, 30, "the first job trains")
        second = cluster.submit(name="second", **keys)
        cluster.wait_for(second, lambda d: d["samples_applied"] > 0, 30, "the second job trains")
        devices = [row["device"] for job in (first, second) for row in cluster.job(job)["trainers"]]
        self.assertEqual(sorted(device.split(",")[0] for device in devices), ["cuda:0", "cuda:1"])
        self.assertTrue(all("products in bf16" in device for device in devices), devices)
        for job in first, second:
            cluster.lagoon("cancel", job)

    def test_the_gpu_of_a_killed_trainer_is_given_out_again(self):
        cluster = self.start(2)
        job = cluster.submit(**{**JOB, "train.epochs": 5000, "restart.max": 100})
        for _ in range(3):
            before = {row["trainer"] for row in self.both_run(cluster, job).values()}
            os.kill(trainer_pids(cluster.daemons["gpus"])[0], signal.SIGKILL)
            rows = running(cluster.wait_for(
                job, lambda d, b=before: len(running(d)) == 2 and {r["trainer"] for r in running(d).values()} != b,
                30, "the killed trainer's successor is at work"))
            self.assertEqual(sorted(rows), ["cuda:0", "cuda:1"])
        cluster.lagoon("cancel", job)

    def test_more_slots_than_gpus(self):
        cluster = self.start(2, slots=4)
        job = cluster.submit(**{**JOB, "train.epochs": 500})
        document = cluster.wait_for(job, lambda d: len(d["trainers"]) == 4 and all(
            ", emulated GPU" in row["device"] for row in d["trainers"]), 30, "four trainers")
        devices = sorted(row["device"].split(",")[0] for row in document["trainers"])
        self.assertEqual(devices, ["cuda:0", "cuda:0", "cuda:1", "cuda:1"])
        cluster.lagoon("cancel", job)

    def test_a_list_of_devices(self):
        cluster = self.start(3, "--device=cuda:2,cpu")
        job = cluster.submit(**{**JOB, "train.epochs": 4})
        document = cluster.wait_for(job, lambda d: len([r for r in d["trainers"] if r["samples"]]) == 2, 30,
                                    "a trainer on each device")
        devices = sorted(row["device"].split(",")[0] for row in document["trainers"])
        self.assertEqual(devices, ["cpu", "cuda:2"])
        self.finish(cluster, job)

    def test_a_gpu_that_is_not_there(self):
        """Nothing computes elsewhere instead."""
        cluster = self.start(2, "--device=cuda:5")
        job = cluster.submit(**{**JOB, "restart.max": 0})
        document = cluster.wait(job, expect=None)
        self.assertEqual(document["state"], "failed")
        self.assertIn("cuda:5", document["reason"])

    def test_local_steps_need_the_cpu(self):
        cluster = self.start(1)
        job = cluster.submit(**{**JOB, "train.local_steps": 4, "restart.max": 0})
        document = cluster.wait(job, expect=None)
        self.assertEqual(document["state"], "failed")
        self.assertIn("train.local_steps", document["reason"])

    def test_lagoon_up_shares_the_gpus(self):
        with tempfile.TemporaryDirectory() as dir:
            state = "--state_dir=" + os.path.join(dir, "state")

            def lagoon(*args):
                done = subprocess.run([os.path.join(EMULATED, "bin/lagoon"), *args, state], capture_output=True,
                                      text=True, timeout=60 * SLOW, env=with_gpus(3))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                return done.stdout
            lagoon("up", "--workers=2")
            try:
                rows = {row["name"]: (row["devices"], row["slots"]) for row in json.loads(lagoon("workers", "--json"))}
                self.assertEqual(rows, {"worker1": (["cuda:0", "cuda:2"], 2), "worker2": (["cuda:1"], 1)})
                self.assertIn("cuda:0, emulated GPU", lagoon("doctor"))
            finally:
                lagoon("down")


@unittest.skipUnless(os.path.exists(os.path.join(EMULATED, "lib/lagoon/lagoon-cuda.so")),
                     "no emulated GPUs in this build (they need g++ on x86-64, and fibers)")
class Mixed(unittest.TestCase):
    """CPUs and a GPU that differ in speed: here the GPU is the slow one, since it is emulated."""

    def start(self, cluster, slowdown):
        cluster.start_worker("cpus", 2, args=["--device=cpu"]).ready()
        cluster.start_worker("gpu", 1, slowdown, gpus=1).ready()

    def by_device(self, document):
        rows = {}
        for row in document["trainers"]:
            rows.setdefault("gpu" if row["device"].startswith("cuda") else "cpu", []).append(row)
        return rows

    def test_the_slow_ones_pushes_are_staler(self):
        with Cluster(shards=2, workers=0) as cluster:
            self.start(cluster, 4)
            job = cluster.submit(**{**JOB, "train.epochs": 60, "staleness.policy": "polynomial"})

            def look(document):
                rows = self.by_device(document)
                return len(rows.get("cpu", ())) == 2 and len(rows.get("gpu", ())) == 1 and \
                    rows["gpu"][0]["steps"] >= 40 and rows["gpu"][0]["staleness_mean"] > 0
            document = cluster.wait_for(job, look, 90, "the GPU has pushed 40 times")
            rows = self.by_device(document)
            gpu, cpus = rows["gpu"][0], rows["cpu"]
            for cpu in cpus:
                self.assertGreater(cpu["samples_per_second"], 1.5 * gpu["samples_per_second"])
                self.assertGreater(gpu["staleness_mean"], 2 * cpu["staleness_mean"])
                self.assertLess(gpu["weight_mean"], cpu["weight_mean"])
            self.show_histograms(cluster)
            text = cluster.lagoon("job", job).stdout
            self.assertIn("cuda:0, emulated GPU", text)
            document = cluster.wait(job)
            self.assertEqual(document["state"], "finished")
            self.assertGreater(document["accuracy"], 0.9)
            check_exact(self, document, SAMPLES)

    def show_histograms(self, cluster):
        """By the workers' own metrics, half of the GPU's pushes are staler than nearly all of the CPUs'."""
        def share_over(name, limit):
            buckets = histogram(cluster.http(name, "/metrics"))
            at = sum(count for upper, count in buckets if upper == limit)
            every = sum(count for upper, count in buckets if upper == float("inf"))
            self.assertGreater(every, 0, name)
            return 1 - at / every
        self.assertGreater(share_over("gpu", 4), 0.5)
        self.assertLess(share_over("cpus", 4), 0.25)

    def test_codecs_of_both(self):
        """The CPUs' gradients are encoded by the library, the GPU's where they are computed; shards see no difference."""
        with Cluster(shards=2, workers=0) as cluster:
            self.start(cluster, 1)
            for codec in "int8", "topk":
                job = cluster.submit(**{**JOB, "name": codec, "train.epochs": 20, "push.codec": codec,
                                        "train.micro_batch": 8})
                document = cluster.wait(job)
                self.assertEqual(document["state"], "finished")
                self.assertGreater(document["accuracy"], 0.9, codec)
                check_exact(self, document, SAMPLES)
                self.assertEqual(sorted(self.by_device(document)), ["cpu", "gpu"], codec)

    def test_the_gpu_worker_is_killed_in_mid_job(self):
        with Cluster(shards=2, workers=0) as cluster:
            self.start(cluster, 1)
            job = cluster.submit(**{**JOB, "train.epochs": 30})
            cluster.wait_for(job, lambda d: any(row["samples"] for row in self.by_device(d).get("gpu", ())), 60,
                             "the GPU has trained")
            pids = trainer_pids(cluster.daemons["gpu"])
            cluster.daemons["gpu"].kill()
            wait_until(lambda: not any(alive(pid) for pid in pids), 5, "its trainer is gone with it")
            document = cluster.wait(job)
            self.assertEqual(document["state"], "finished")
            self.assertGreater(document["accuracy"], 0.9)
            check_exact(self, document, SAMPLES)
            self.assertIn("taken back", "\n".join(row["text"] for row in document["history"]))


class Real(unittest.TestCase):
    """On the GPUs that this machine has, if any."""

    def setUp(self):
        self.cluster = Cluster(shards=2, workers=0).__enter__()
        self.cluster.start_worker("gpus", 0).ready()
        self.devices = wait_until(lambda: self.cluster.json("workers"), 10, "the worker is listed")[0]["devices"]
        if self.devices == ["cpu"]:
            self.cluster.close()
            shutil.rmtree(self.cluster.dir, ignore_errors=True)
            self.skipTest("no GPU on this machine")
        self.addCleanup(self.cluster.__exit__, None, None, None)

    def train(self, job=JOB, **keys):
        job = self.cluster.submit(**{"train.epochs": 4, **job, **keys})
        document = self.cluster.wait(job)
        self.assertEqual(document["state"], "finished")
        check_exact(self, document, SAMPLES)
        self.assertEqual(document["restarts"], 0)
        devices = {row["device"].split(",")[0] for row in document["trainers"]}
        self.assertEqual(devices, set(self.devices), "one trainer on each GPU, and nowhere else")
        return document

    def test_jobs_train_on_every_gpu(self):
        self.assertGreater(self.train()["accuracy"], 0.9)

    def test_codecs(self):
        for codec in "bf16", "f16", "int8", "onebit", "topk":
            with self.subTest(codec):
                keys = {"push.codec": codec, "train.micro_batch": 8, "train.epochs": 8}
                self.assertGreater(self.train(**keys)["accuracy"], 0.8)

    def test_a_language_model(self):
        document = self.train({
            "model.kind": "gpt", "model.layers": 1, "model.width": 16, "model.heads": 2, "dataset.kind": "drawn-tokens",
            "dataset.context": 16, "dataset.vocabulary": 64, "dataset.structure": 0.9, "dataset.test_samples": 64,
            "dataset.train_samples": SAMPLES, "updater.kind": "adamw", "lr.base": 0.01, "train.batch": 32})
        self.assertLess(document["evaluation_loss"], 3)  # ln(64) is 4.16


if __name__ == "__main__":
    unittest.main()
