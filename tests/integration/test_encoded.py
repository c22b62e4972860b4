"""Gradients encoded on a device that has memory of its own, pushed over TCP and on one host. The device is an emulated GPU
(tests/gpu/emulate.h): real daemons and the CUDA backend's own kernels, run by the host."""

import os
import tempfile
import unittest

from cluster import EMULATED, Cluster, check_exact

SAMPLES = 3000
JOB = {"model.kind": "mlp", "model.hidden": "64,32", "updater.kind": "momentum", "lr.base": 0.02, "train.batch": 16,
       "train.threads": 1, "lease.duration": "500ms", "dataset.kind": "mixture", "dataset.features": 16,
       "dataset.classes": 4, "dataset.components": 8, "dataset.spread": 1.5, "dataset.train_samples": SAMPLES,
       "dataset.test_samples": 400, "train.epochs": 4, "codec.topk": 0.1}
ENCODED = "are encoded as %s on cuda:0, emulated GPU"


@unittest.skipUnless(os.path.exists(os.path.join(EMULATED, "lib/lagoon/lagoon-cuda.so")),
                     "no emulated GPUs in this build (they need g++ on x86-64, and fibers)")
class Encoded(unittest.TestCase):
    def train(self, codec, server_args=(), cpus=0, exact=True, **keys):
        """What the GPUs' trainers said."""
        with Cluster(shards=2, workers=0, server_args=server_args) as cluster:
            cluster.start_worker("gpus", 2, gpus=2).ready()
            if cpus:
                cluster.start_worker("cpus", cpus, args=["--device=cpu"]).ready()
            document = cluster.wait(cluster.submit(**{**JOB, "push.codec": codec, **keys}))
            self.assertEqual(document["state"], "finished")
            self.assertGreater(document["accuracy"], 0.85)
            self.assertEqual(document["restarts"], 0)
            if exact:
                check_exact(self, document, SAMPLES)
            text = cluster.daemons["gpus"].text()
            self.assertIn(ENCODED % codec, text)
            if cpus:
                self.assertNotIn("are encoded as", cluster.daemons["cpus"].text())
            return text

    def test_every_codec(self):
        for codec in "bf16", "f16", "int8", "onebit", "topk":
            with self.subTest(codec):
                self.train(codec, **{"train.epochs": 2})

    def test_over_tcp(self):
        self.train("topk", ["--shards.local=false"])

    def test_both_ways(self):
        self.train("int8", **{"pull.codec": "bf16", "pull.delta": "true"})

    def test_two_pushes_at_once_in_pieces_clipped(self):
        self.train("topk", **{"train.pipeline": 2, "train.micro_batch": 5, "train.clip": "global"})
        self.train("bf16", **{"train.pipeline": 2, "train.micro_batch": 7, "train.clip": "tensor"})

    def test_beside_cpus(self):
        """Whose clients encode: the shards see no difference."""
        self.train("topk", cpus=1, **{"staleness.policy": "inverse"})

    def test_a_push_without_a_ticket_is_taken_back(self):
        text = self.train("topk", exact=False, **{"consistency.mode": "backup", "consistency.pushes": 1,
                                                  "train.epochs": 6})
        self.assertIn("are given up: the round was full", text)

    def test_a_stopped_trainer_leaves_its_residual(self):
        with tempfile.TemporaryDirectory() as folder, Cluster(shards=2, workers=0) as cluster:
            keep = ["--trainer.state_dir=" + folder]
            first = cluster.start_worker("first", 1, gpus=1, args=keep)
            first.ready()
            job = cluster.submit(**{**JOB, "push.codec": "topk", "workers": 1, "train.epochs": 300})
            cluster.wait_for(job, lambda d: d["samples_applied"] > 500, 30, "the job trains")
            first.stop()
            self.assertIn("what the codec has kept back of the gradients is in", first.text())
            self.assertEqual(len(os.listdir(folder)), 1)
            second = cluster.start_worker("second", 1, gpus=1, args=keep)
            second.ready()
            before = cluster.job(job)["samples_applied"]
            cluster.wait_for(job, lambda d: d["samples_applied"] > before, 30, "the next trainer goes on")
            self.assertIn("going on with what", second.text())
            self.assertEqual(os.listdir(folder), [])
            cluster.lagoon("cancel", job)


if __name__ == "__main__":
    unittest.main()
