"""Jobs that train to their end: one worker and one shard, several of each, two jobs at once, real data."""

import json
import os
import struct
import unittest

from cluster import DATA, Cluster, check_exact

GLYPHS = {"dataset.kind": "glyphs", "dataset.train_samples": 4000, "dataset.test_samples": 500}


def read_safetensors(path):
    """{name: (shape, floats)}, read the way the format's text says, without its library."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    tensors, covered = {}, 0
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        covered += end - begin
        assert entry["dtype"] == "F32"
        tensors[name] = (entry["shape"], struct.unpack("<%df" % ((end - begin) // 4), data[begin:end]))
    assert covered == len(data)
    return tensors


class Train(unittest.TestCase):
    def test_one_worker_one_shard(self):
        with Cluster(shards=1, workers=1) as cluster:
            job = cluster.submit(**{"name": "softmax", "model.kind": "softmax", "train.epochs": 2,
                                    "updater.kind": "momentum", "lr.base": 0.02, **GLYPHS})
            document = cluster.wait(job)
            self.assertEqual(document["state"], "finished")
            self.assertGreater(document["accuracy"], 0.5)
            check_exact(self, document, 4000)
            path = os.path.join(cluster.dir, "model.safetensors")
            cluster.lagoon("export", "softmax", "--output", path)
            tensors = read_safetensors(path)
            self.assertEqual(sum(len(values) for _, values in tensors.values()), 7850)
            self.assertTrue(any(value != 0 for _, values in tensors.values() for value in values))

    def test_local_steps(self):
        """Trainers step on their own and push how far they came: a fifth of the pushes, every sample once."""
        with Cluster(shards=2, workers=2, worker_args=["--device=cpu"]) as cluster:
            job = cluster.submit(**{"model.kind": "mlp", "train.epochs": 3, "train.local_steps": 5, "train.batch": 32,
                                    "local.updater.kind": "adamw", "local.lr": 0.002, "lr.base": 0.7,
                                    "updater.kind": "delayed-nesterov", "updater.period": 2, "updater.beta": 0.3,
                                    "staleness.policy": "constant", **GLYPHS})
            document = cluster.wait(job)
            self.assertEqual(document["state"], "finished")
            self.assertGreater(document["accuracy"], 0.6)
            check_exact(self, document, 4000)
            steps = 3 * 4000 / 32
            self.assertLess(max(shard["pushes"] for shard in document["shards"]), steps / 3)

    def test_start_from_a_file(self):
        with Cluster(shards=2, workers=1) as cluster:
            keys = {"model.kind": "mlp", "train.epochs": 1, "updater.kind": "adam", "lr.base": 0.001, **GLYPHS}
            first = cluster.wait(cluster.submit(name="first", **keys))
            path = os.path.join(cluster.dir, "first.safetensors")
            cluster.lagoon("export", "first", "--output", path)
            # A rate of zero keeps what the file gave: the evaluation must come out the same.
            keys["lr.base"] = 0
            args = ["%s=%s" % item for item in keys.items()]
            job = cluster.json("submit", "name=second", *args, "--init", path)["job"]
            second = cluster.wait(str(job))
            self.assertAlmostEqual(first["accuracy"], second["accuracy"], places=6)
            out = os.path.join(cluster.dir, "second.safetensors")
            cluster.lagoon("export", "second", "--output", out)
            self.assertEqual(read_safetensors(path), read_safetensors(out))

    def test_init_file_of_another_model(self):
        with Cluster(shards=1, workers=1) as cluster:
            cluster.wait(cluster.submit(**{"name": "small", "model.kind": "softmax", "train.epochs": 1, **GLYPHS}))
            path = os.path.join(cluster.dir, "small.safetensors")
            cluster.lagoon("export", "small", "--output", path)
            done = cluster.lagoon("submit", "name=other", "model.kind=mlp", "train.epochs=1",
                                  *("%s=%s" % item for item in GLYPHS.items()), "--init", path, expect=None)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("small.safetensors", done.stderr)
            self.assertEqual(cluster.job("other")["state"], "cancelled")

    def test_two_jobs_at_once(self):
        with Cluster(shards=2, workers=2, slots=1) as cluster:
            keys = {"workers": 1, "train.epochs": 2, **GLYPHS}
            one = cluster.submit(name="one", **{"model.kind": "softmax", "lr.base": 0.02, **keys})
            two = cluster.submit(name="two", **{"model.kind": "mlp", "updater.kind": "adam", "lr.base": 0.001, **keys})
            check_exact(self, cluster.wait(one), 4000)
            check_exact(self, cluster.wait(two), 4000)
            self.assertNotEqual(cluster.job("one")["parameters"], cluster.job("two")["parameters"])

    def test_pipelines(self):
        """Alone, a worker is never behind its own pushes; with a pipeline of 2 it is by one, but in a lease's first step and
        where a step is over before its pull has gone out."""
        keys = {"model.kind": "mlp", "train.epochs": 2, "updater.kind": "sgd", "lr.base": 0.05, **GLYPHS}
        with Cluster(shards=2, workers=1) as cluster:
            one = cluster.wait(cluster.submit(name="one", **keys))
            two = cluster.wait(cluster.submit(name="two", **{"train.pipeline": 2, **keys}))
        for document in one, two:
            check_exact(self, document, 4000)
            self.assertGreater(document["accuracy"], 0.5)
        self.assertEqual(one["staleness"]["max"], 0)
        self.assertEqual(two["staleness"]["max"], 1)
        self.assertGreater(two["staleness"]["mean"], 0.4)

    def test_a_pipeline_of_two_workers(self):
        keys = {"model.kind": "mlp", "train.epochs": 2, "updater.kind": "momentum", "lr.base": 0.01, **GLYPHS}
        with Cluster(shards=2, workers=2) as cluster:
            document = cluster.wait(cluster.submit(name="deep", **{"train.pipeline": 2, **keys}))
        check_exact(self, document, 4000)
        self.assertGreater(document["accuracy"], 0.5)
        self.assertGreater(document["staleness"]["mean"], 1)

    def test_agaricus(self):
        file = os.path.join(DATA, "libsvm/agaricus.train")
        if not os.path.exists(file):
            print("SKIP: the data set agaricus is missing: %s" % file)
            return
        with Cluster(shards=2, workers=2) as cluster:
            document = cluster.wait(cluster.submit("configs/jobs/agaricus.yaml", **{
                "dataset.train": file, "dataset.test": file.replace(".train", ".test")}))
            self.assertGreaterEqual(document["accuracy"], 0.995)
            check_exact(self, document, 6513)

    def test_mnist_softmax(self):
        folder = os.path.join(DATA, "mnist")
        if not os.path.isdir(folder):
            print("SKIP: the data set MNIST is missing: %s" % folder)
            return
        with Cluster(shards=2, workers=2) as cluster:
            document = cluster.wait(cluster.submit("configs/jobs/mnist-softmax.yaml", **{"dataset.path": folder}))
            self.assertGreater(document["accuracy"], 0.90)
            check_exact(self, document, 60000)


if __name__ == "__main__":
    unittest.main()
