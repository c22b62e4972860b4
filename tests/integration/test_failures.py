"""Processes that die, stop and come back in the middle of training: nothing is lost, nothing counted twice."""

import os
import random
import signal
import unittest

from cluster import Cluster, alive, check_exact, wait_until

SAMPLES = 6000
JOB = {"model.kind": "mlp", "updater.kind": "momentum", "lr.base": 0.01, "train.batch": 16, "train.epochs": 3,
       "train.threads": 1, "lease.duration": "1s", "dataset.kind": "glyphs", "dataset.train_samples": SAMPLES,
       "dataset.test_samples": 200}


def half(document):
    return document["state"] == "running" and document["samples_applied"] > SAMPLES // 2


def trainer_pids(daemon):
    """The trainer processes below an agent."""
    children = "/proc/%d/task/%d/children" % (daemon.pid, daemon.pid)
    with open(children) as file:
        return [int(word) for word in file.read().split()]


class Failures(unittest.TestCase):
    def finish(self, cluster, job):
        document = cluster.wait(job, seconds=150)
        self.assertEqual(document["state"], "finished")
        check_exact(self, document, SAMPLES)
        return document

    def test_worker_daemon_killed(self):
        with Cluster(workers=3) as cluster:
            job = cluster.submit(**JOB)
            cluster.wait_for(job, half, 60, "half an epoch trained")
            cluster.daemons["worker2"].kill()
            document = self.finish(cluster, job)
            text = "\n".join(row["text"] for row in document["history"])
            self.assertIn("taken back", text)
            self.assertGreaterEqual(document["slices_taken_over"], 1)

    def test_trainers_killed_at_random_moments(self):
        seed = int(os.environ.get("LAGOON_SEED", "7"))
        print("seed", seed)
        chance = random.Random(seed)
        with Cluster(workers=3) as cluster:
            job = cluster.submit(**{**JOB, "restart.max": 100})
            cluster.wait_for(job, half, 60, "half an epoch trained")
            for kill in range(6):
                mark = cluster.job(job)["samples_applied"] + chance.randrange(50, 900)
                document = cluster.wait_for(
                    job, lambda d, m=mark: d["samples_applied"] >= m or d["state"] == "finished", 60, "progress")
                if document["state"] == "finished":
                    break
                pids = [pid for name in ("worker1", "worker2", "worker3") for pid in trainer_pids(cluster.daemons[name])]
                if pids:
                    os.kill(chance.choice(pids), signal.SIGKILL)
            document = self.finish(cluster, job)
            self.assertGreaterEqual(document["restarts"], 1)

    def test_server_stopped_for_three_seconds(self):
        with Cluster(workers=2, dead_after="5s") as cluster:
            job = cluster.submit(**JOB)
            cluster.wait_for(job, half, 60, "half an epoch trained")
            server = cluster.daemons["server1"]
            server.signal(signal.SIGSTOP)
            before = cluster.job(job)["samples_applied"]
            timer = __import__("threading").Timer(3, lambda: server.signal(signal.SIGCONT))
            timer.start()
            timer.join()
            self.assertGreaterEqual(cluster.job(job)["samples_applied"], before)
            self.finish(cluster, job)

    def test_coordinator_killed_and_restarted(self):
        with Cluster(workers=2, dead_after="5s") as cluster:
            job = cluster.submit(**JOB)
            cluster.wait_for(job, half, 60, "half an epoch trained")
            cluster.daemons["coordinator"].kill()
            done = cluster.lagoon("jobs", expect=None)
            self.assertEqual(done.returncode, 3)
            self.assertIn("no coordinator answers", done.stderr)
            cluster.restart_coordinator()
            self.finish(cluster, job)

    def test_server_unreachable_at_start(self):
        with Cluster(servers=0, workers=1) as cluster:
            job = cluster.submit(**JOB)
            cluster.wait_for(job, lambda d: d["reason"], 20, "the job says what it waits for")
            cluster.start_server("server1").ready()
            self.finish(cluster, job)

    def test_coordinator_missing_at_start(self):
        cluster = Cluster(workers=0, servers=0)
        with cluster:
            coordinator = cluster.daemons["coordinator"]
            self.assertEqual(coordinator.stop(), 0)
            worker = cluster.start_worker("worker1")
            server = cluster.start_server("server1")
            for daemon in (worker, server):
                daemon.ready()
                wait_until(lambda d=daemon: "coordinator-silent" in d.text(), 15,
                           "%s says that the coordinator is missing" % daemon.name)
            cluster.restart_coordinator()
            self.finish(cluster, cluster.submit(**JOB))

    def test_server_lost_for_good(self):
        with Cluster(workers=1, coordinator_args=["--liveness.server_grace=2s"]) as cluster:
            job = cluster.submit(**{**JOB, "train.epochs": 50})
            cluster.wait_for(job, half, 60, "half an epoch trained")
            cluster.daemons["server1"].kill()
            document = cluster.wait(job, seconds=60, expect=4)
            self.assertIn("server1", document["reason"])

    def test_sigterm_in_the_middle(self):
        with Cluster(workers=2) as cluster:
            job = cluster.submit(**{**JOB, "train.epochs": 50})
            cluster.wait_for(job, half, 60, "half an epoch trained")
            # Every daemon must exit with 0: the context manager checks it.

    def test_agent_death_takes_its_trainers(self):
        with Cluster(workers=1) as cluster:
            job = cluster.submit(**{**JOB, "train.epochs": 50})
            cluster.wait_for(job, half, 60, "half an epoch trained")
            pids = trainer_pids(cluster.daemons["worker1"])
            self.assertTrue(pids)
            cluster.daemons["worker1"].kill()
            for pid in pids:
                wait_until(lambda p=pid: not alive(p), 10, "trainer %d is gone" % pid)


if __name__ == "__main__":
    unittest.main()
