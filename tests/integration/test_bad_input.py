"""Bad input of every kind: one clear error with place and remedy; nobody else is disturbed."""

import gzip
import json
import os
import random
import socket
import struct
import subprocess
import unittest

from cluster import BIN, DATA, ROOT, Cluster, wait_until


def run(program, *args, timeout=30):
    return subprocess.run([os.path.join(BIN, program), *args], capture_output=True, text=True, timeout=timeout,
                          cwd=ROOT)


def address(endpoint):
    host, port = endpoint.replace("tcp://", "").replace("http://", "").rsplit(":", 1)
    return host, int(port)


def send_raw(endpoint, data):
    """Writes bytes to a port; a peer that hangs up early is fine."""
    try:
        with socket.create_connection(address(endpoint), timeout=5) as peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            peer.settimeout(2)
            while peer.recv(65536):
                pass
    except OSError:
        pass


def zmtp_frame(body, more=False):
    return bytes([2 | (1 if more else 0)]) + struct.pack(">Q", len(body)) + body


ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
ZMTP_READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


class ConfigErrors(unittest.TestCase):
    def refuse(self, text, *expected, program="lagoon-server", ending=".yaml"):
        path = os.path.join(self.dir, "bad" + ending)
        with open(path, "w") as file:
            file.write(text)
        done = run(program, "-c", path)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(len(done.stderr.strip().split("\n")), 1, done.stderr)
        for word in expected:
            self.assertIn(word, done.stderr)

    def setUp(self):
        import tempfile
        self.folder = tempfile.TemporaryDirectory()
        self.dir = self.folder.name

    def tearDown(self):
        self.folder.cleanup()

    def test_unknown_key(self):
        self.refuse("role: server\nshrads:\n  count: 2\n", "bad.yaml:3", "shrads.count", "shards.count")

    def test_wrong_type(self):
        self.refuse("shards: {count: many}\n", "bad.yaml:1", "many")

    def test_out_of_range(self):
        self.refuse("shards: {count: 1000}\n", "1000", "64")

    def test_broken_yaml(self):
        self.refuse("role: [server\n", "bad.yaml:")

    def test_missing_file(self):
        done = run("lagoon-server", "-c", os.path.join(self.dir, "nowhere.yaml"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("nowhere.yaml", done.stderr)

    def test_worker_key(self):
        self.refuse("slotss: 2\n", "slots", program="lagoon-worker")

    def test_off_loopback_needs_a_word(self):
        done = run("lagoon-server", "--bind=0.0.0.0:0", "--coordinator=127.0.0.1:1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("security: none", done.stderr)

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for role in ("server", "coordinator"):
                done = run("lagoon-server", "--role=" + role, "--bind=127.0.0.1:%d" % port,
                           "--data_dir=" + os.path.join(self.dir, "data"))
                self.assertEqual(done.returncode, 1)
                self.assertIn(str(port), done.stderr)
                self.assertIn("in use", done.stderr)

    def test_job_file(self):
        path = os.path.join(self.dir, "job.yaml")
        for text, word in (("updater: {kind: adamm}\n", "adam"), ("updater: {kind: adam, bet1: 1}\n", "beta1"),
                           ("model: {kind: mlp, hiden: [3]}\n", "hidden"), ("train: {batch: 0}\n", "batch"),
                           ("staleness: {policy: poly}\n", "polynomial"), ("name: 'a b'\n", "name"),
                           ("lr: {base: .nan}\n", "lr.base"), ("dataset: {kind: idx}\nmodel: {kindd: x}\n", "kind")):
            with open(path, "w") as file:
                file.write(text)
            done = run("lagoon", "submit", path, "--coordinator=127.0.0.1:1")
            self.assertEqual(done.returncode, 2, text + done.stderr)
            self.assertIn(word, done.stderr)
            self.assertIn("job.yaml:", done.stderr)


class Garbage(unittest.TestCase):
    def ports(self, cluster):
        server, coordinator, worker = (cluster.daemons[name].ready() for name in ("server1", "coordinator", "worker1"))
        return [coordinator["endpoint"], *server["shards"], coordinator["http"], server["http"], worker["http"]]

    def test_random_bytes_on_every_port_while_a_job_trains(self):
        chance = random.Random(3)
        with Cluster(workers=2) as cluster:
            job = cluster.submit(**{"model.kind": "softmax", "train.epochs": 4, "dataset.kind": "glyphs",
                                    "dataset.train_samples": 6000, "dataset.test_samples": 100})
            cluster.wait_for(job, lambda d: d["state"] == "running", 30, "the job runs")
            for endpoint in self.ports(cluster):
                for size in (1, 64, 1000, 70000):
                    send_raw(endpoint, chance.randbytes(size))
                # A good greeting, then frames that claim far too much or say nothing.
                head = ZMTP_GREETING + ZMTP_READY
                send_raw(endpoint, head + b"\x02" + struct.pack(">Q", 8 << 30))
                send_raw(endpoint, head + zmtp_frame(chance.randbytes(200)))
                send_raw(endpoint, head + zmtp_frame(b""))
                send_raw(endpoint, head + zmtp_frame(b"\x08\x01\x62\x02\x08\x01", more=True) + zmtp_frame(bytes(16)))
                send_raw(endpoint, head + b"".join(zmtp_frame(b"x", more=True) for _ in range(500)) + zmtp_frame(b"x"))
            document = cluster.wait(job)
            self.assertEqual(document["state"], "finished")
            self.assertTrue(all(row["samples_least"] == row["samples_most"] == 6000 for row in document["ledger"]))
            metrics = cluster.http("server1", "/metrics")
            counted = [line for line in metrics.split("\n") if line.startswith("lagoon_malformed_total")]
            self.assertTrue(any(float(line.rsplit(" ", 1)[1]) > 0 for line in counted), counted)

    def test_http(self):
        with Cluster(workers=1) as cluster:
            for name in ("coordinator", "server1", "worker1"):
                self.assertIn("# EOF", cluster.http(name, "/metrics"))
                json.loads(cluster.http(name, "/stats.json"))
                self.assertIn("ok", cluster.http(name, "/healthz"))


class BadData(unittest.TestCase):
    """A job whose data is wrong fails with the reason, and is not restarted for ever."""

    def fails(self, cluster, *words, **keys):
        job = cluster.submit(**{"train.epochs": 1, "model.kind": "softmax", **keys})
        document = cluster.wait(job, seconds=40, expect=4)
        for word in words:
            self.assertIn(word, document["reason"], keys)

    def test_files(self):
        with Cluster(workers=1) as cluster:
            def write(name, data):
                path = os.path.join(cluster.dir, name)
                with open(path, "wb") as file:
                    file.write(data)
                return path
            images = struct.pack(">IIII", 0x803, 10, 4, 4) + bytes(160)
            labels = struct.pack(">II", 0x801, 10) + bytes(range(10))
            good = {"dataset.kind": "idx", "dataset.train_images": write("images", images),
                    "dataset.train_labels": write("labels", labels), "dataset.test_images": write("images2", images),
                    "dataset.test_labels": write("labels2", labels)}
            self.fails(cluster, "short", **{**good, "name": "truncated",
                                           "dataset.train_images": write("short", images[:-40])})
            self.fails(cluster, "nowhere", **{**good, "name": "missing",
                                             "dataset.train_images": os.path.join(cluster.dir, "nowhere")})
            lie = struct.pack(">IIII", 0x803, 1 << 30, 1 << 10, 1 << 10) + bytes(100)
            self.fails(cluster, "lie", **{**good, "name": "lie", "dataset.train_images": write("lie", lie)})
            csv = {"dataset.kind": "csv", "dataset.test": write("test.csv", b"1,2,0\n3,4,1\n")}
            self.fails(cluster, 'nan.csv" line 2', **{**csv, "name": "nan",
                                               "dataset.train": write("nan.csv", b"1,2,0\n3,nan,1\n")})
            svm = {"dataset.kind": "libsvm", "dataset.test": write("test.svm", b"0 1:1\n1 2:1\n")}
            self.fails(cluster, 'bad.svm" line 2', **{**svm, "name": "svm",
                                               "dataset.train": write("bad.svm", b"0 1:1\n1 x:1\n")})
            # And the cluster still works.
            job = cluster.submit(**{"name": "after", "train.epochs": 1, "model.kind": "softmax",
                                    "dataset.kind": "glyphs", "dataset.train_samples": 500,
                                    "dataset.test_samples": 50})
            cluster.wait(job)

    def test_diverging_job(self):
        with Cluster(workers=1) as cluster:
            self.fails(cluster, "diverged", **{"name": "diverging", "lr.base": 1000, "model.kind": "mlp",
                                              "dataset.kind": "glyphs", "dataset.train_samples": 20000,
                                              "dataset.test_samples": 50, "train.epochs": 5})


if __name__ == "__main__":
    unittest.main()
