"""A server records what its shards are given; a replay gets the same parameters, to the last bit."""

import os
import unittest

from cluster import Cluster, check_exact

JOB = {"model.kind": "mlp", "model.hidden": "300", "updater.kind": "adam", "lr.base": 0.001, "train.batch": 32,
       "train.epochs": 1, "train.threads": 1, "staleness.policy": "inverse", "dataset.kind": "glyphs",
       "dataset.train_samples": 2000, "dataset.test_samples": 200}


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    return data[8 + int.from_bytes(data[:8], "little"):]  # without the header: notes may differ


class Replay(unittest.TestCase):
    def train(self, cluster):
        job = cluster.submit(name="recorded", **JOB)
        document = cluster.wait(job)
        check_exact(self, document, 2000)
        live = os.path.join(cluster.dir, "live.safetensors")
        cluster.lagoon("export", "recorded", "--output", live)
        return live

    def replay(self, local):
        with Cluster(servers=0, workers=2) as cluster:
            path = os.path.join(cluster.dir, "run.rec")
            cluster.start_server("server1", 2, ["--record=" + path, "--shards.local=" + local]).ready()
            live = self.train(cluster)
            cluster.daemons["server1"].stop()
            again = os.path.join(cluster.dir, "again.safetensors")
            rows = cluster.json("replay", path + ".0", path + ".1", "--output", again)
            self.assertEqual(read(live), read(again))
            for row in rows:
                self.assertEqual(row["jobs"][0]["samples"], 2000)
                self.assertGreaterEqual(row["checksums"], 1)
            text = cluster.lagoon("replay", path + ".0", "--decisions", "--until=3").stdout
            self.assertIn("every decision is the same", text)

    def test_shared_memory(self):
        self.replay("yes")

    def test_messages(self):
        self.replay("no")


if __name__ == "__main__":
    unittest.main()
