"""lagoon top in a pipe and on a terminal: what it shows, that it follows the window, and that it leaves no trace."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from cluster import BIN, EMULATED, ROOT, SLOW, Cluster, wait_until

TOKENS = {"dataset.context": 16, "dataset.vocabulary": 64}
LAGOON = os.path.join(BIN, "lagoon")
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?25h\x1b[?1049l"


class Terminal:
    """`lagoon top` on a pseudo-terminal."""

    def __init__(self, *args, rows=24, columns=80, environment=None):
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        env = dict(os.environ, TERM="xterm")
        env.pop("NO_COLOR", None)
        env.update(environment or {})
        self.process = subprocess.Popen([LAGOON, "top", *args], stdin=slave, stdout=slave, stderr=slave, cwd=ROOT,
                                        env=env, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.seen += os.read(self.master, 65536)
            except OSError:
                break
        return self.seen

    def frames(self):
        """Whole screens, as lines without escape sequences."""
        whole = re.findall(rb"\x1b\[H(.*?)\x1b\[J", self.read(), re.S)
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame.decode()).split("\r\n") for frame in whole]

    def until(self, condition, what, seconds=15):
        """Waits for a frame that was drawn from now on."""
        self.read()
        self.seen = b""
        return wait_until(lambda: next((f for f in self.frames() if condition("\n".join(f))), None), seconds, what)

    def end(self):
        status = self.process.wait(10 * SLOW)
        self.read()
        after = termios.tcgetattr(self.slave)
        os.close(self.slave)
        os.close(self.master)
        return status, after

    def type(self, text):
        os.write(self.master, text)


class Top(unittest.TestCase):
    def check_restored(self, terminal, expected=0):
        status, after = terminal.end()
        self.assertEqual(status, expected)
        self.assertTrue(terminal.seen.endswith(LEAVE), terminal.seen[-200:])
        self.assertEqual(after, terminal.before, "the terminal's settings are as they were")

    def start_job(self, cluster):
        job = cluster.submit(**{"name": "watched", "model.kind": "softmax", "dataset.kind": "glyphs",
                                "train.epochs": "100000"})
        wait_until(lambda: cluster.job("watched").get("samples_applied", 0) > 0, 30, "it trains")
        return job

    def test_pipe(self):
        with Cluster(workers=2) as cluster:
            self.start_job(cluster)

            def look(*args):
                done = subprocess.run([LAGOON, "top", "--coordinator=" + cluster.endpoint, *args],
                                      capture_output=True, text=True, timeout=60 * SLOW)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                return done.stdout

            def rates_there():
                text = look()
                row = re.search(r"^ +0 +server1 +alive +\S+ \S+ +([\d.]+k?) +([\d.]+k?) +[\d.]+ \S+ +1:\d+$", text,
                                re.M)
                return text if row else None
            text = wait_until(rates_there, 20, "shards have rates")
            self.assertNotIn("\x1b", text)
            self.assertRegex(text, r"watched +running +\d+/100000 +0\.0% +[\d.]+k? ")
            trainers = re.findall(r"^ *\d+ +1 +worker[12] +cpu +\S+.*$", text, re.M)
            self.assertEqual(len(trainers), 2, text)
            shares = [int(share) for share in re.findall(r"(\d+)%", trainers[0])]
            self.assertEqual(len(shares), 5, trainers[0])
            self.assertTrue(97 <= sum(shares) <= 103, trainers[0])
            self.assertEqual(text.count("RATE/S"), 2)
            self.assertEqual(look("--count=2", "--interval=100ms").count("RATE/S"), 4)
            documents = look("--json", "--count=2", "--interval=100ms").splitlines()
            self.assertEqual(len(documents), 2)
            trainer = json.loads(documents[0])["workers"][0]["trainers"][0]
            self.assertEqual(trainer["job"], "watched")
            self.assertGreater(trainer["read_seconds"], 0)
            self.assertGreaterEqual(trainer["compute_seconds"], trainer["read_seconds"])
            self.assertGreaterEqual(trainer["communication_seconds"], trainer["wait_seconds"])

    @unittest.skipUnless(os.path.exists(os.path.join(EMULATED, "lib/lagoon/lagoon-cuda.so")), "no emulated GPUs")
    def test_devices(self):
        """The driver says where GPUs are, the management library what they do; neither knows the other's numbers."""
        with Cluster(workers=0) as cluster:
            cluster.start_worker("gpus", slots=0, gpus=2, args=["--device=auto"]).ready()
            cluster.start_worker("plain").ready()

            def look():
                text = cluster.lagoon("top").stdout
                return text if "fake card 11" in text and re.search(r"^plain +cpu +[\d.]+ .iB.*%", text, re.M) else None
            text = wait_until(look, 20, "devices have numbers")
            self.assertRegex(text, r"(?m)^gpus +cuda:0 +2 GiB +80 GiB +17% +57 C +17 W +fake card 11$")
            self.assertRegex(text, r"(?m)^gpus +cuda:1 +1 GiB +80 GiB +16% +56 C +16 W +fake card 10$")
            for codec in ("f32", "int8"):
                job = cluster.submit(**{"model.kind": "mlp", "dataset.kind": "mixture", "train.epochs": 100000,
                                        "push.codec": codec, "workers": 2, "train.batch": 16})
                rows = cluster.wait_for(job, lambda d: [row for row in d["trainers"] if row.get("copy_bytes")], 30,
                                        "a GPU has copied")["trainers"]
                row = next(row for row in rows if row.get("copy_bytes"))
                self.assertGreater(row["memory_used_bytes"], 0)
                self.assertLessEqual(row["copy_seconds"], row["compute_seconds"])
                self.assertIn("emulated GPU", row["device"])
                cluster.lagoon("cancel", job)
            metrics = cluster.http("gpus", "/metrics")
            self.assertRegex(metrics, r'lagoon_worker_copy_bytes_total\{job="[^"]*",trainer="\d+"\} [1-9]')
            self.assertIn('lagoon_device_memory_used_bytes{device="cuda:0"} 2147483648', metrics)
            self.assertIn('lagoon_device_power_watts{device="cuda:1"} 16', metrics)

    def test_language_model(self):
        with Cluster(workers=1) as cluster:
            job = cluster.submit(**{"name": "words", "model.kind": "gpt", "model.layers": 1, "model.width": 32,
                                    "model.heads": 2, "dataset.kind": "drawn-tokens", "train.batch": 4,
                                    "train.epochs": 100000, **TOKENS})
            document = cluster.wait_for(job, lambda d: d["tokens_per_second"] and d["samples_per_second"], 30,
                                        "tokens are counted")
            ratio = document["tokens_per_second"] / document["samples_per_second"]
            self.assertAlmostEqual(ratio, 16, delta=2)
            weights = 12 * 32 * 32 + 32 * 64
            per_token = document["flops_per_second"] / document["tokens_per_second"]
            self.assertAlmostEqual(per_token, 6 * weights + 12 * 32 * 16, delta=10)
            self.assertIsNone(document["flops_peak"], "nobody knows what this CPU can do")
            self.assertRegex(cluster.lagoon("job", job).stdout, r"(?m)^  tokens       [\d.]+k? tokens/s, [\d.]+[MG] model FLOP/s$")
            self.assertRegex(cluster.lagoon("top").stdout, r"words +running .* [\d.]+k? tok ")

    def test_terminal(self):
        with Cluster(workers=1) as cluster:
            self.start_job(cluster)
            top = Terminal("--coordinator=" + cluster.endpoint, "--interval=100ms")
            frame = top.until(lambda text: "watched" in text and "worker1" in text, "the job is shown")
            self.assertLessEqual(len(frame), 24)
            self.assertTrue(all(len(line) <= 80 for line in frame), frame)
            self.assertIn(b"\x1b[32m", top.seen)
            top.resize(9, 40)
            small = top.until(lambda text: all(len(line) <= 40 for line in text.split("\n")) and "watched" in text,
                              "it follows a smaller window")
            self.assertLessEqual(len(small), 9)
            top.resize(50, 160)
            top.until(lambda text: "MEMORY" in text and "VIA" in text and "SERVER" in text, "and a larger one")
            top.type(b"xyz")
            top.until(lambda text: "watched" in text, "other keys do nothing")
            top.type(b"q")
            self.check_restored(top)

    def test_ends_and_colours(self):
        with Cluster(workers=1) as cluster:
            where = "--coordinator=" + cluster.endpoint
            top = Terminal(where, environment={"NO_COLOR": "1"})
            top.until(lambda text: "no jobs" in text, "an empty cluster is shown")
            self.assertNotIn(b"\x1b[32m", top.seen)
            self.assertNotIn(b"\x1b[1m", top.seen)
            top.type(b"\x03")
            self.check_restored(top)
            top = Terminal(where)
            top.until(lambda text: "no jobs" in text, "it is up")
            top.process.send_signal(signal.SIGTERM)
            self.check_restored(top, -signal.SIGTERM)
            top = Terminal(where, "--count=2", "--interval=100ms")
            self.check_restored(top)
            once = Terminal(where, "--once")
            status, _ = once.end()
            self.assertEqual(status, 0)
            self.assertIn(b"no jobs", once.seen)
            self.assertNotIn(ENTER, once.seen)

    def test_stopped_and_continued(self):
        with Cluster(workers=1) as cluster:
            top = Terminal("--coordinator=" + cluster.endpoint, "--interval=100ms")
            top.until(lambda text: "no jobs" in text, "it is up")
            top.type(b"\x1a")

            def stopped():
                with open("/proc/%d/stat" % top.process.pid) as file:
                    return file.read().rsplit(")", 1)[1].split()[0] == "T"
            wait_until(stopped, 10, "Ctrl-Z stops it")
            self.assertTrue(top.read().endswith(LEAVE))
            top.process.send_signal(signal.SIGCONT)
            top.until(lambda text: "no jobs" in text, "it goes on")
            top.type(b"q")
            self.check_restored(top)

    def test_coordinator_that_is_not_there(self):
        done = subprocess.run([LAGOON, "top", "--coordinator=127.0.0.1:1"], capture_output=True, text=True,
                              timeout=60 * SLOW)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertEqual(len(done.stderr.strip().split("\n")), 1)
        top = Terminal("--coordinator=127.0.0.1:1")
        frame = top.until(lambda text: "no coordinator answers at 127.0.0.1:1" in text, "it says so")
        self.assertEqual(len(frame), 1)
        began = time.monotonic()
        top.type(b"q")
        self.check_restored(top)
        self.assertLess(time.monotonic() - began, 1.5 * SLOW, "q does not wait for an answer")

    def test_coordinator_that_goes_away_and_comes_back(self):
        with Cluster(workers=1) as cluster:
            top = Terminal("--coordinator=" + cluster.endpoint, "--interval=100ms")
            top.until(lambda text: "worker1" in text, "it is up")
            cluster.daemons["coordinator"].kill()
            lost = top.until(lambda text: "does not answer; asking again" in text, "it says so")
            self.assertIn("worker1", "\n".join(lost), "what was seen last stays")
            cluster.restart_coordinator()
            top.until(lambda text: "worker1" in text and "does not answer" not in text, "it has found it again", 30)
            top.type(b"q")
            self.check_restored(top)


if __name__ == "__main__":
    unittest.main()
