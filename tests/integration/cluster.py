"""Real daemons for integration tests: started on port 0, watched, and every exit status collected.

    with Cluster(workers=2) as cluster:
        job = cluster.submit(**{"model.kind": "softmax", "dataset.kind": "glyphs"})
        cluster.wait(job)

Nothing here sleeps and hopes: wait_until polls a condition up to a deadline and fails with what it saw last.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(os.environ.get("LAGOON_BIN", os.path.join(ROOT, "build/release/bin")))
DATA = os.path.abspath(os.environ.get("LAGOON_DATA", os.path.join(ROOT, "../shared/data")))
# Programs with the emulated CUDA backend beside them, and a driver for it (tests/gpu/emulate.h); not in every build.
EMULATED = os.path.join(os.path.dirname(BIN), "tests/gpu/emulated")
# Sanitizer builds are slower: tests scale their deadlines.
SLOW = 4 if "san-" in BIN or "coverage" in BIN else 1


def wait_until(condition, seconds, what):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("after %g s still not: %s" % (seconds * SLOW, what))
        time.sleep(0.02)


def alive(pid):
    """True while the process runs; a zombie that nobody has waited for yet does not."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def with_gpus(count):
    """The environment of programs in EMULATED/bin: as many emulated GPUs."""
    folders = [os.path.join(EMULATED, "driver"), os.environ.get("LD_LIBRARY_PATH", "")]
    return dict(os.environ, LD_LIBRARY_PATH=":".join(filter(None, folders)), LAGOON_EMULATED_GPUS=str(count))


class Daemon:
    """One process with its log and its ready file."""

    def __init__(self, cluster, name, program, args, gpus=None):
        self.name = name
        self.log_path = os.path.join(cluster.dir, name + ".log")
        self.ready_path = os.path.join(cluster.dir, name + ".ready")
        if os.path.exists(self.ready_path):
            os.remove(self.ready_path)
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [os.path.join(BIN if gpus is None else os.path.join(EMULATED, "bin"), program), "--name=" + name,
             "--ready_file=" + self.ready_path] + args,
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=ROOT,
            env=None if gpus is None else with_gpus(gpus))
        self.expected = (0,)

    @property
    def pid(self):
        return self.process.pid

    def ready(self, seconds=15):
        def look():
            if os.path.exists(self.ready_path):
                with open(self.ready_path) as file:
                    return json.load(file)
            if self.process.poll() is not None:
                raise AssertionError("%s ended at its start with %d:\n%s" %
                                     (self.name, self.process.returncode, self.text()))
            return None
        return wait_until(look, seconds, self.name + " is ready")

    def text(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """kill -9, on purpose."""
        self.expected = (-signal.SIGKILL,)
        self.process.kill()
        self.process.wait(10)

    def stop(self, seconds=15):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(seconds * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.log.close()
                raise AssertionError("%s did not stop on SIGTERM:\n%s" % (self.name, self.text()[-3000:]))
        self.log.close()
        return self.process.returncode


class Cluster:
    def __init__(self, servers=1, shards=2, workers=2, slots=1, slowdowns=(), dead_after="2s", server_args=(),
                 worker_args=(), coordinator_args=()):
        self.dir = tempfile.mkdtemp(prefix="lagoon-test-")
        self.plan = (servers, shards, workers, slots, slowdowns)
        self.dead_after = dead_after
        self.server_args, self.worker_args = list(server_args), list(worker_args)
        self.coordinator_args = list(coordinator_args)
        self.daemons = {}
        self.endpoint = None

    def __enter__(self):
        servers, shards, workers, slots, slowdowns = self.plan
        try:
            self.start_coordinator()
            for i in range(servers):
                self.start_server("server%d" % (i + 1), shards)
            for i in range(workers):
                self.start_worker("worker%d" % (i + 1), slots, slowdowns[i] if i < len(slowdowns) else 1)
            for daemon in list(self.daemons.values()):
                daemon.ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, value, trace):
        try:
            statuses = self.close()
        finally:
            if kind is not None:
                self.show_logs()
            shutil.rmtree(self.dir, ignore_errors=True)
        if kind is None:
            for name, (status, expected) in statuses.items():
                assert status in expected, "%s ended with %d, expected %s" % (name, status, expected)

    # ---- daemons

    def start_coordinator(self, bind="127.0.0.1:0"):
        daemon = Daemon(self, "coordinator", "lagoon-server",
                        ["--role=coordinator", "--bind=" + bind, "--data_dir=" + os.path.join(self.dir, "data"),
                         "--liveness.dead_after=" + self.dead_after] + self.coordinator_args)
        self.daemons["coordinator"] = daemon
        self.endpoint = daemon.ready()["endpoint"]
        return daemon

    def restart_coordinator(self):
        """Starts it again on the same port, with the same data."""
        return self.start_coordinator(self.endpoint.replace("tcp://", ""))

    def start_server(self, name, shards=2, args=()):
        self.daemons[name] = Daemon(self, name, "lagoon-server",
                                    ["--coordinator=" + self.endpoint, "--shards.count=%d" % shards]
                                    + self.server_args + list(args))
        return self.daemons[name]

    def start_worker(self, name, slots=1, slowdown=1, args=(), gpus=None):
        """gpus: a worker that finds so many emulated GPUs; None: the program as it is."""
        self.daemons[name] = Daemon(self, name, "lagoon-worker",
                                    ["--coordinator=" + self.endpoint, "--slots=%d" % slots,
                                     "--slowdown=%g" % slowdown, "--data_root=" + ROOT]
                                    + self.worker_args + list(args), gpus)
        return self.daemons[name]

    def close(self):
        """Stops everything, workers first; {name: (status, expected)}."""
        statuses = {}
        order = sorted(self.daemons, key=lambda name: ("worker" not in name, "server" not in name))
        for name in order:
            statuses[name] = (self.daemons[name].stop(), self.daemons[name].expected)
        self.daemons = {}
        return statuses

    def show_logs(self):
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                with open(os.path.join(self.dir, name), errors="replace") as file:
                    print("---- %s\n%s" % (name, file.read()[-4000:]))

    # ---- the command line

    def lagoon(self, *args, expect=0, timeout=300, stdin=None):
        """Runs `lagoon ARGS` against this cluster; returns its completed process."""
        done = subprocess.run([os.path.join(BIN, "lagoon"), *args, "--coordinator=" + self.endpoint,
                               "--state_dir=" + os.path.join(self.dir, "state")],
                              capture_output=True, text=True, timeout=timeout * SLOW, cwd=ROOT, stdin=stdin)
        if expect is not None:
            assert done.returncode == expect, "lagoon %s: exit code %d, expected %d\n%s%s" % (
                " ".join(args), done.returncode, expect, done.stdout, done.stderr)
        return done

    def json(self, *args, **keywords):
        return json.loads(self.lagoon(*args, "--json", **keywords).stdout)

    def submit(self, file=None, **keys):
        """Returns the job's number as text."""
        args = ([file] if file else []) + ["%s=%s" % item for item in keys.items()]
        return str(self.json("submit", *args)["job"])

    def job(self, job):
        return self.json("job", job)

    def wait(self, job, seconds=120, expect=0):
        self.lagoon("wait", job, "--timeout=%ds" % (seconds * SLOW), expect=expect, timeout=seconds + 30)
        return self.job(job)

    def wait_for(self, job, condition, seconds, what):
        """Polls the job's document until condition(document)."""
        def look():
            document = self.job(job)
            assert document["state"] not in ("failed", "cancelled") or condition(document), document["reason"]
            return document if condition(document) else None
        return wait_until(look, seconds, what)

    def http(self, name, path):
        with open(self.daemons[name].ready_path) as file:
            url = json.load(file)["http"]
        with urllib.request.urlopen(url + path, timeout=10) as reply:
            return reply.read().decode()


def check_exact(test, document, samples):
    """Every sample of every epoch applied exactly once on every shard, by the shards' own ledgers."""
    rows = document["ledger"]
    test.assertTrue(rows, "the job has no ledger rows")
    epochs = {row["epoch"] for row in rows}
    shards = {row["shard"] for row in rows}
    test.assertEqual(len(epochs), document["epochs"])
    test.assertEqual(len(rows), len(epochs) * len(shards))
    for row in rows:
        test.assertEqual((row["samples_least"], row["samples_most"]), (samples, samples), row)


def pss_bytes(pid):
    """Memory of a process, shared pages counted in proportion."""
    with open("/proc/%d/smaps_rollup" % pid) as file:
        for line in file:
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    raise AssertionError("no Pss of process %d" % pid)
