"""Chaos from a seed: a small job trains while processes are killed, stopped, restarted and cancelled.

    python3 tests/integration/test_chaos.py             the seeds that CI runs
    python3 tests/integration/test_chaos.py --seeds 50  fifty seeds, starting at LAGOON_SEED or 1; --seconds S: of trouble
    LAGOON_SEED=17 python3 tests/integration/test_chaos.py --seeds 1

What must hold whatever the seed did: every job ends before a deadline, in the state it should; the shards' own ledgers
count every sample of every epoch once; no daemon crashes, and SIGTERM ends each with 0; what the command line prints
with --json is JSON; the final evaluation is there; no process is left over.
"""

import heapq
import json
import os
import random
import re
import signal
import sys
import time
import unittest

from cluster import SLOW, Cluster, alive, check_exact, wait_until

SEEDS_IN_CI = (3, 8, 21) if SLOW == 1 else (8,)  # sanitizer builds are slow
CHAOS_SECONDS = 8
FINISH_SECONDS = 60
LEAVE_SECONDS = 15  # trainer.grace and some
CRASH = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|[Aa]ssertion|"
                   r"killed by signal (?:4|6|7|8|11)\b|stack smashing|double free|corrupted|"
                   r"stuck|bad-answer|dropped a message")


def children(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Chaos:
    """One scenario. All choices come from `chance`; what the machine makes of them does not."""

    def __init__(self, test, seed, verbose=False, seconds=CHAOS_SECONDS):
        self.test, self.seed, self.verbose, self.seconds = test, seed, verbose, seconds
        self.chance = random.Random(seed)
        self.slots = self.chance.choice((1, 1, 2))
        self.two_jobs = self.chance.random() < 0.35
        self.kill_a_server = self.chance.random() < 0.12
        self.early = self.chance.random() < 0.4  # the coordinator dies while the job is being set up
        self.local = self.chance.random() < 0.5  # trainers share memory with the shards
        self.grave = {}       # daemons that were killed or stopped on purpose, by log name
        self.later = []       # heap of (time, tie, function): SIGCONTs and restarts that are due
        self.ties = 0
        self.leaving = []     # agents that were sent SIGTERM: (name, daemon, deadline)
        self.stopped = set()  # pids under SIGSTOP
        self.trainers = set()
        self.births = 0
        self.jobs = {}        # name: (number, samples)
        self.cancelled = set()
        self.submitted = 0
        self.down = False     # the coordinator is
        self.begun = time.monotonic()
        self.events = []

    def note(self, text, *args):
        line = "%6.2f s  %s" % (time.monotonic() - self.begun, text % args)
        self.events.append(line)
        if self.verbose:
            print(line, flush=True)

    def at(self, seconds, function):
        self.ties += 1
        heapq.heappush(self.later, (time.monotonic() + seconds, self.ties, function))

    def run_due(self):
        self.watch_leaving()
        while self.later and self.later[0][0] <= time.monotonic():
            heapq.heappop(self.later)[2]()

    # ---- jobs

    def submit(self):
        chance, samples = self.chance, self.chance.choice((4000, 8000, 12000))
        self.submitted += 1
        name = "job%d" % self.submitted
        keys = {"name": name, "model.kind": chance.choice(("softmax", "mlp")), "updater.kind": "momentum",
                "lr.base": 0.01, "train.batch": chance.choice((8, 16)), "train.epochs": chance.choice((3, 6, 9)) * self.seconds // CHAOS_SECONDS,
                "train.threads": 1, "dataset.kind": "glyphs", "dataset.train_samples": samples,
                "dataset.test_samples": 100, "restart.max": 1000,
                "lease.duration": chance.choice(("200ms", "1s", "3s"))}
        if self.two_jobs:
            keys["workers"] = 2 if self.slots == 1 else 3
        if keys["model.kind"] == "mlp":
            keys["model.hidden"] = chance.choice(("64", "256,128"))
        self.note("submit %s: %s, %d samples, %d epochs, leases of %s", name, keys["model.kind"], samples,
                  keys["train.epochs"], keys["lease.duration"])
        self.jobs[name] = (self.cluster.submit(**keys), samples)

    def cancel(self):
        live = [name for name in self.jobs if name not in self.cancelled]
        if not self.answers() or self.submitted >= 4 or not live:
            return
        name = self.chance.choice(live)
        self.note("cancel %s", name)
        self.cluster.lagoon("cancel", self.jobs[name][0])
        self.cancelled.add(name)
        self.submit()

    # ---- processes

    def workers(self):
        return [name for name, daemon in self.cluster.daemons.items()
                if name.startswith("worker") and daemon.process.poll() is None]

    def look_for_trainers(self):
        found = []
        for name in self.workers():
            found += children(self.cluster.daemons[name].pid)
        self.trainers.update(found)
        return found

    def kill_trainer(self):
        pids = self.look_for_trainers()
        if pids:
            pid = self.chance.choice(pids)
            self.note("kill -9 trainer %d", pid)
            send(pid, signal.SIGKILL)
            self.stopped.discard(pid)

    def bury(self, name):
        daemon = self.cluster.daemons.pop(name)
        self.grave["%s-%d" % (name, len(self.grave))] = daemon
        self.stopped.discard(daemon.pid)
        return daemon

    def start_worker(self, name=None):
        if not name:
            self.births += 1
            name = "worker-new%d" % self.births
        self.note("start %s", name)
        self.cluster.start_worker(name, self.slots, 4)

    def replace_worker(self, name):
        """As an operator would: soon, under a new name or the old one."""
        name = name if self.chance.random() < 0.5 else None
        self.at(self.chance.uniform(0, 2), lambda: self.start_worker(name))

    def kill_agent(self):
        names = self.workers()
        if names:
            name = self.chance.choice(names)
            self.note("kill -9 %s", name)
            self.look_for_trainers()
            self.bury(name).kill()
            self.replace_worker(name)

    def terminate_agent(self):
        names = self.workers()
        if not names:
            return
        name = self.chance.choice(names)
        self.note("SIGTERM %s", name)
        self.look_for_trainers()
        daemon = self.bury(name)
        send(daemon.pid, signal.SIGTERM)
        send(daemon.pid, signal.SIGCONT)
        self.leaving.append((name, daemon, time.monotonic() + LEAVE_SECONDS * SLOW))

    def watch_leaving(self):
        for entry in list(self.leaving):
            name, daemon, deadline = entry
            self.test.assertLess(time.monotonic(), deadline, "%s does not stop on SIGTERM" % name)
            if daemon.process.poll() is not None:
                self.note("%s has stopped", name)
                self.leaving.remove(entry)
                self.replace_worker(name)

    def pause(self, pid, what):
        if pid in self.stopped or not alive(pid):
            return
        seconds = self.chance.uniform(0.2, 4)
        self.note("SIGSTOP %s %d for %.1f s", what, pid, seconds)
        send(pid, signal.SIGSTOP)
        self.stopped.add(pid)

        def go_on():
            if pid in self.stopped:
                self.stopped.discard(pid)
                self.note("SIGCONT %s %d", what, pid)
                send(pid, signal.SIGCONT)
        self.at(seconds, go_on)

    def pause_trainer(self):
        pids = self.look_for_trainers()
        if pids:
            self.pause(self.chance.choice(pids), "trainer")

    def pause_agent(self):
        names = self.workers()
        if names:
            name = self.chance.choice(names)
            self.pause(self.cluster.daemons[name].pid, name)

    def pause_server(self):
        name = self.chance.choice(("server1", "server2"))
        self.pause(self.cluster.daemons[name].pid, name)

    def answers(self):
        return not self.down and self.cluster.daemons["coordinator"].pid not in self.stopped

    def pause_coordinator(self):
        """Its own sleep is nobody else's silence."""
        if not self.down:
            self.pause(self.cluster.daemons["coordinator"].pid, "coordinator")

    def kill_coordinator(self):
        if self.down:
            return
        self.note("kill -9 coordinator")
        self.down = True
        self.bury("coordinator").kill()

        def restart():
            self.note("restart coordinator")
            self.cluster.restart_coordinator()
            self.down = False
        self.at(self.chance.choice((0, self.chance.uniform(0.1, 3))), restart)

    def kill_coordinator_in_takeover(self):
        self.kill_trainer()
        time.sleep(self.chance.uniform(0, 0.15))
        self.kill_coordinator()

    def look(self):
        """What an operator asks for is JSON, or says that no coordinator answers."""
        if not self.answers() and self.chance.random() < 0.8:
            return  # it takes seconds to give up, in which nothing else would happen
        command = self.chance.choice((["jobs"], ["workers"], ["shards"], ["status"], ["stats"], ["job", "job1"]))
        done = self.cluster.lagoon(*command, "--json", expect=None, timeout=30)
        if done.returncode == 0:
            json.loads(done.stdout)
        else:
            self.test.assertTrue(not self.answers() and done.returncode == 3, "lagoon %s: %d\n%s" % (
                " ".join(command), done.returncode, done.stderr))

    ACTIONS = ((kill_trainer, 5), (kill_agent, 2), (terminate_agent, 1), (pause_trainer, 4), (pause_agent, 2),
               (pause_server, 3), (pause_coordinator, 1), (kill_coordinator, 2), (kill_coordinator_in_takeover, 1), (cancel, 1), (look, 4))

    # ---- the scenario

    def kill_server(self):
        """Its jobs must fail and say why; a new server takes the next job."""
        name = self.chance.choice(("server1", "server2"))
        self.note("kill -9 %s", name)
        self.bury(name).kill()
        again = self.chance.random() < 0.5
        if again:
            self.cluster.start_server(name).ready()
        for number, _ in self.live_jobs():
            document = self.cluster.wait(number, seconds=30, expect=None)
            if document["state"] == "finished":  # it was faster
                continue
            self.test.assertEqual(document["state"], "failed")
            self.test.assertIn(name, document["reason"])
            self.note("job %s failed: %s", number, document["reason"])
        for job in list(self.jobs):
            self.cancelled.add(job)
        if not again:
            self.cluster.start_server(name).ready()
        self.submit()

    def live_jobs(self):
        return [job for name, job in self.jobs.items() if name not in self.cancelled]

    def listing(self):
        return self.cluster.json("jobs") if self.answers() else []

    def make_trouble(self):
        if self.early:
            time.sleep(self.chance.uniform(0, 0.8))
            self.kill_coordinator()
        actions, weights = zip(*self.ACTIONS)
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            self.run_due()
            self.chance.choices(actions, weights)[0](self)
            pause = time.monotonic() + self.chance.choice((0.02, 0.1, 0.3, 0.8, 1.5))
            while time.monotonic() < pause:
                self.run_due()
                self.look_for_trainers()
                time.sleep(0.02)

    def settle(self):
        self.note("quiet: %s", ", ".join("job %d %s at %d of %d" % (
            job["id"], job["state"], job["samples_applied"], job["samples_total"]) for job in self.listing()))
        while self.later or self.leaving:
            self.run_due()
            time.sleep(0.02)
        if not self.workers():
            self.start_worker()

    def finish(self):
        for number, samples in self.live_jobs():
            document = self.cluster.wait(number, seconds=FINISH_SECONDS + 3 * self.seconds, expect=None)
            self.test.assertEqual(document["state"], "finished",
                                  "job %s: %s\n%s" % (number, document["reason"], self.describe(document)))
            check_exact(self.test, document, samples)
            self.test.assertIsNotNone(document["accuracy"])
            last = document["evaluations"][-1]
            self.test.assertEqual((last["epoch"], last["predictions"]), (document["epochs"], 100))
            self.note("job %s finished: %d restarts, %d slices taken over", number, document["restarts"],
                      document["slices_taken_over"])
        for name in self.cancelled:
            self.test.assertNotIn(self.cluster.job(self.jobs[name][0])["state"], ("running", "evaluating", "waiting"))

    def describe(self, document):
        return "\n".join(row["text"] for row in document["history"][-40:]) + "\n" + json.dumps(
            {key: document[key] for key in ("state", "leases", "trainers", "samples_applied")})

    def check_remains(self):
        """After the cluster was closed: nobody runs, nobody crashed."""
        for pid in self.trainers:
            wait_until(lambda p=pid: not alive(p), 15, "trainer %d is gone" % pid)
        for name in sorted(os.listdir(self.cluster.dir)):
            if not name.endswith(".log"):
                continue
            with open(os.path.join(self.cluster.dir, name), errors="replace") as file:
                text = file.read()
            found = CRASH.search(text)
            self.test.assertIsNone(found, found and "%s: %s" % (name, text[max(0, found.start() - 1500):
                                                                             found.end() + 3000]))

    def check_statuses(self):
        for name, daemon in self.grave.items():
            self.test.assertIn(daemon.process.wait(10), daemon.expected, name)

    def scenario(self):
        self.submit()
        if self.two_jobs:
            self.submit()
        self.make_trouble()
        self.settle()
        if self.kill_a_server:
            self.kill_server()
        self.finish()
        self.note("close")
        for name, (status, expected) in self.cluster.close().items():
            self.test.assertIn(status, expected, "%s ended with %d" % (name, status))
        self.check_statuses()
        self.check_remains()

    def run(self):
        print("seed %d: %d slots%s%s%s%s" % (self.seed, self.slots, "" if self.local else ", over tcp",
                                             ", two jobs" if self.two_jobs else "",
                                             ", a server is killed" if self.kill_a_server else "",
                                             ", early coordinator kill" if self.early else ""), flush=True)
        with Cluster(servers=2, shards=2, workers=3, slots=self.slots, slowdowns=(4, 6, 10), dead_after="1500ms",
                     coordinator_args=["--liveness.beat=300ms", "--liveness.server_grace=10s"],
                     server_args=[] if self.local else ["--shards.local=no"]) as cluster:
            self.cluster = cluster
            try:
                self.scenario()
            except BaseException:
                print("\n".join(self.events))
                for pid in list(self.stopped):
                    send(pid, signal.SIGCONT)
                raise


class ChaosTest(unittest.TestCase):
    def test_broken_pipes(self):
        """A trainer may die before it has read its orders, a log's reader may go away: no daemon dies of that."""
        with Cluster(workers=1) as cluster:
            for daemon in cluster.daemons.values():
                daemon.signal(signal.SIGPIPE)
            job = cluster.submit(**{"model.kind": "softmax", "dataset.train_samples": 500})
            self.assertEqual(cluster.wait(job)["state"], "finished")

    def test_killed_between_two_servers(self):
        """A trainer dies when its push has reached one server and not the other: the samples that one server has
        are not applied there again, and the other gets them from the next trainer. Over TCP: where a message only names
        what lies in shared memory, all of a push fits into the sockets' buffers."""
        keys = {"model.kind": "mlp", "model.hidden": "2000,2000", "updater.kind": "sgd", "train.batch": 16,
                "train.epochs": 2, "train.threads": 1, "restart.max": 100, "lease.duration": "3s",
                "dataset.train_samples": 800, "dataset.test_samples": 100}
        with Cluster(servers=2, workers=1, dead_after="5s", server_args=["--shards.local=no"]) as cluster:
            job = cluster.submit(**keys)
            for turn in range(80):
                mark = cluster.job(job)["samples_applied"]
                document = cluster.wait_for(job, lambda d, m=mark: d["samples_applied"] > m or d["state"] == "finished",
                                            60, "progress")
                if document["state"] == "finished" or self.count(cluster, "duplicates") > 0:
                    break
                self.tear_a_push(cluster, *(("server1", "server2"), ("server2", "server1"))[turn % 2])
            document = cluster.wait(job, seconds=120)
            check_exact(self, document, 800)
            self.assertGreaterEqual(document["slices_taken_over"], 1)
            self.assertGreater(self.count(cluster, "duplicates"), 0, "no push was torn: nothing was tested")

    def tear_a_push(self, cluster, deaf, other):
        """`deaf` is stopped; when most of the 6 parts of a push that was under way have arrived at `other`, the trainer
        dies. What it could not put into the buffers of deaf's sockets is gone."""
        cluster.daemons[deaf].signal(signal.SIGSTOP)
        parts, deadline = self.count(cluster, "push_parts", other), time.monotonic() + 0.5
        while time.monotonic() < deadline and self.count(cluster, "push_parts", other) < parts + 4:
            time.sleep(0.01)
        if self.count(cluster, "push_parts", other) >= parts + 4:
            for pid in children(cluster.daemons["worker1"].pid):
                send(pid, signal.SIGKILL)
        cluster.daemons[deaf].signal(signal.SIGCONT)

    def count(self, cluster, metric, *servers):
        pattern = re.compile(r"^lagoon_%s_total\{.*\} (\d+)$" % metric, re.M)
        return sum(int(value) for name in servers or ("server1", "server2")
                   for value in pattern.findall(cluster.http(name, "/metrics")))

    def test_seeds(self):
        seeds = (int(os.environ["LAGOON_SEED"]),) if os.environ.get("LAGOON_SEED") else SEEDS_IN_CI
        for seed in seeds:
            with self.subTest(seed=seed):
                Chaos(self, seed).run()


def argument(name, default=None):
    return int(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else default


def run_many(count):
    first = int(os.environ.get("LAGOON_SEED", "1"))
    test, failed = unittest.TestCase(), []
    for seed in range(first, first + count):
        begun = time.monotonic()
        try:
            Chaos(test, seed, True, argument("--seconds", CHAOS_SECONDS)).run()
            print("seed %d: passed in %.1f s" % (seed, time.monotonic() - begun), flush=True)
        except Exception as error:  # the next seed is independent of this one
            failed.append(seed)
            print("seed %d: FAILED: %s: %s" % (seed, type(error).__name__, error), flush=True)
    print("%d of %d seeds failed%s" % (len(failed), count, ": " + ", ".join(map(str, failed)) if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    if "--seeds" in sys.argv:
        sys.exit(run_many(argument("--seeds")))
    unittest.main()
