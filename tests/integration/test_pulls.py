"""How parameters come to a device that has memory of its own: out of shared memory, in place and staged, and in messages.
The device is an emulated GPU (tests/gpu/emulate.h): real daemons, real shared memory, and copies made by the host."""

import os
import unittest

from cluster import EMULATED, Cluster, check_exact

SAMPLES = 3000
JOB = {"model.kind": "mlp", "model.hidden": "64,32", "updater.kind": "momentum", "lr.base": 0.02, "train.batch": 16,
       "train.threads": 1, "lease.duration": "500ms", "dataset.kind": "mixture", "dataset.features": 16,
       "dataset.classes": 4, "dataset.components": 8, "dataset.spread": 1.5, "dataset.train_samples": SAMPLES,
       "dataset.test_samples": 400, "train.epochs": 4}
IN_PLACE, STAGED, MESSAGES = "without a copy on the host", "copied on the host first", "they come in messages"


@unittest.skipUnless(os.path.exists(os.path.join(EMULATED, "lib/lagoon/lagoon-cuda.so")),
                     "no emulated GPUs in this build (they need g++ on x86-64, and fibers)")
class Pulls(unittest.TestCase):
    def train(self, server_args=(), **keys):
        """Two GPUs; returns what their trainers said."""
        with Cluster(shards=2, workers=0, server_args=server_args) as cluster:
            cluster.start_worker("gpus", 2, gpus=2).ready()
            document = cluster.wait(cluster.submit(**{**JOB, **keys}))
            self.assertEqual(document["state"], "finished")
            self.assertGreater(document["accuracy"], 0.9)
            self.assertEqual(document["restarts"], 0)
            check_exact(self, document, SAMPLES)
            return cluster.daemons["gpus"].text()

    def without_read_only(self):
        os.environ["LAGOON_EMULATED_NO_READ_ONLY"] = "1"
        self.addCleanup(os.environ.pop, "LAGOON_EMULATED_NO_READ_ONLY")

    def test_in_place(self):
        for depth in 1, 2:
            text = self.train(**{"train.pipeline": depth})
            self.assertIn(IN_PLACE, text)
            self.assertNotIn(STAGED, text)

    def test_staged(self):
        self.without_read_only()
        for depth in 1, 2:
            text = self.train(**{"train.pipeline": depth})
            self.assertIn(STAGED, text)
            self.assertNotIn(IN_PLACE, text)

    def test_messages(self):
        for keys in {"train.pipeline": 1}, {"train.pipeline": 2}, {"train.push_pull": "no"}:
            text = self.train(["--shards.local=false"], **keys)
            self.assertIn(MESSAGES, text)
            self.assertNotIn(IN_PLACE, text)

    def test_in_codecs_and_differences(self):
        text = self.train(**{"pull.codec": "bf16", "pull.delta": "true"})
        self.assertIn(MESSAGES, text)

    def test_beside_pushes_that_the_device_encodes(self):
        text = self.train(**{"push.codec": "int8", "train.pipeline": 2, "train.micro_batch": 8})
        self.assertIn(IN_PLACE, text)

    def test_in_modes_that_wait(self):
        self.assertIn(IN_PLACE, self.train(**{"consistency.mode": "bsp"}))
        self.assertIn(IN_PLACE, self.train(**{"consistency.mode": "ssp", "train.pipeline": 1}))


if __name__ == "__main__":
    unittest.main()
