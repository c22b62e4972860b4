"""Consistency modes with real processes: each trains, with workers of different speed and unequal shares; who dies or
stops is not waited for; settings that make no sense are refused."""

import os
import signal
import tempfile
import unittest

from cluster import Cluster, check_exact
from test_failures import trainer_pids

SAMPLES = 3000
JOB = {"model.kind": "mlp", "updater.kind": "momentum", "lr.base": 0.02, "train.batch": 16, "train.epochs": 2,
       "train.threads": 1, "lease.duration": "300ms", "dataset.kind": "glyphs", "dataset.train_samples": SAMPLES,
       "dataset.test_samples": 500}
MODES = {"async": {}, "ssp": {"consistency.bound": 2}, "dssp": {"consistency.bound": 1, "consistency.bound_most": 6},
         "bsp": {}, "backup": {"consistency.pushes": 2}, "rennala": {"consistency.pushes": 3},
         "buffered": {"consistency.pushes": 2}}
TICKETS, ROUNDS = ("backup", "rennala"), ("bsp", "backup", "rennala")


class Modes(unittest.TestCase):
    def check_ledger(self, mode, document):
        """All samples are applied; with tickets, applied or given up."""
        if mode not in TICKETS:
            check_exact(self, document, SAMPLES)
            return
        for row in document["ledger"]:
            self.assertEqual(row["samples_least"], row["samples_most"], row)
            self.assertEqual(row["samples_least"] + row["dropped"], SAMPLES, row)

    def test_every_mode_trains(self):
        with Cluster(shards=2, workers=3, slowdowns=(1, 2, 6)) as cluster:
            for mode, more in MODES.items():
                with self.subTest(mode):
                    job = cluster.submit(**{"name": "mode-" + mode, "consistency.mode": mode, **JOB, **more})
                    document = cluster.wait(job, seconds=120)
                    self.assertEqual(document["state"], "finished")
                    self.check_ledger(mode, document)
                    self.assertGreater(document["accuracy"], 0.4)
                    if mode in ROUNDS:
                        self.assertEqual(document["staleness"]["max"], 0)

    def test_who_dies_or_stops_holds_nobody_up(self):
        for mode, number in (("bsp", signal.SIGKILL), ("bsp", signal.SIGSTOP), ("ssp", signal.SIGSTOP),
                             ("backup", signal.SIGKILL)):
            with self.subTest(mode=mode, signal=number), Cluster(workers=3) as cluster:
                job = cluster.submit(**{**JOB, "consistency.mode": mode, "train.epochs": 4, **MODES[mode]})
                cluster.wait_for(job, lambda d: d["state"] == "running" and d["samples_applied"] > SAMPLES, 60,
                                 "an epoch trained")
                pids = trainer_pids(cluster.daemons["worker2"])
                if number == signal.SIGSTOP:
                    os.kill(cluster.daemons["worker2"].pid, number)
                for pid in pids:
                    os.kill(pid, number)
                document = cluster.wait(job, seconds=120)
                self.assertEqual(document["state"], "finished")
                self.check_ledger(mode, document)

    def test_bsp_is_as_good_as_one_worker_with_a_larger_batch(self):
        accuracies = {}
        for mode, workers, batch in (("async", 1, 48), ("bsp", 3, 16)):
            with Cluster(workers=workers) as cluster:
                job = cluster.submit(**{**JOB, "consistency.mode": mode, "train.batch": batch, "train.epochs": 6})
                document = cluster.wait(job)
                check_exact(self, document, SAMPLES)
                accuracies[mode] = document["accuracy"]
        print(accuracies)
        self.assertGreater(accuracies["bsp"], accuracies["async"] - 0.05)

    def test_replays_to_the_last_bit(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "recording")
            with Cluster(shards=1, workers=3, slowdowns=(1, 1, 3), server_args=("--record=" + path,)) as cluster:
                for mode in ("dssp", "bsp", "backup", "buffered"):
                    job = cluster.submit(**{**JOB, "name": mode, "consistency.mode": mode, "model.kind": "softmax",
                                            **MODES[mode]})
                    self.assertEqual(cluster.wait(job)["state"], "finished")
                cluster.daemons["server1"].stop()
                self.assertIn("every decision is the same", cluster.lagoon("replay", path).stdout)

    def test_what_makes_no_sense_is_refused(self):
        with Cluster(servers=0, workers=0) as cluster:
            for keys, reason in (({"mode": "bsp", "staleness": "inverse"}, "has nothing to weigh"),
                                 ({"mode": "ssp", "pipeline": 2}, "reads ahead of its own pushes"),
                                 ({"mode": "backup"}, "needs consistency.pushes"),
                                 ({"mode": "backup", "pushes": 4, "workers": 3}, "never fills with 3 workers"),
                                 ({"mode": "dssp", "bound": 9, "bound_most": 2}, "it is the greater one"),
                                 ({"mode": "async", "bound": 2}, "says nothing in consistency.mode"),
                                 ({"mode": "bulk"}, "async")):
                names = {"staleness": "staleness.policy", "pipeline": "train.pipeline", "workers": "workers"}
                args = ["%s=%s" % (names.get(key, "consistency." + key), value) for key, value in keys.items()]
                done = cluster.lagoon("submit", *args, expect=None)
                self.assertNotEqual(done.returncode, 0, args)
                self.assertIn(reason, done.stderr)


if __name__ == "__main__":
    unittest.main()
