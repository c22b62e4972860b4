"""What README.md shows is what happens: its commands run, its configuration is right, its links lead somewhere."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

from cluster import BIN, DATA, ROOT, SLOW, alive, wait_until

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as page:
    README = page.read()


def section(heading):
    """The text below "## HEADING" up to the next one."""
    found = re.search(r"^## %s\n(.*?)(?=^## |\Z)" % re.escape(heading), README, re.M | re.S)
    assert found, "README.md has no section \"%s\"" % heading
    return found.group(1)


def blocks(text, language):
    return re.findall(r"^```%s\n(.*?)^```$" % language, text, re.M | re.S)


def tensors(path):
    """{name: shape} of a safetensors file, its lengths checked."""
    with open(path, "rb") as file:
        content = file.read()
    head = int.from_bytes(content[:8], "little")
    header = json.loads(content[8:8 + head])
    header.pop("__metadata__", None)
    end = max(entry["data_offsets"][1] for entry in header.values())
    assert 8 + head + end == len(content), "the file's length does not fit its header"
    return {name: entry["shape"] for name, entry in header.items()}


class Page(unittest.TestCase):
    def test_links_lead_somewhere(self):
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
        self.assertGreater(len(links), 5)
        for link in links:
            if "://" not in link:
                self.assertTrue(os.path.exists(os.path.join(ROOT, link)), link)

    def test_files_and_commands_that_are_named_exist(self):
        for name in set(re.findall(r"\b(?:configs|scripts)/[\w/-]+\.(?:yaml|sh)\b", README)):
            self.assertTrue(os.path.exists(os.path.join(ROOT, name)), name)
        named = set(re.findall(r"[`\n]lagoon ([a-z]+)", README))
        self.assertGreater(len(named), 6)
        for name in named:
            done = subprocess.run([os.path.join(BIN, "lagoon"), name, "--help"], capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 0, "lagoon " + name)

    def test_help_topics(self):
        topics = re.search(r"`lagoon help keys`.*?say what there is", README, re.S).group(0)
        for topic in ["keys"] + [word.split()[-1] for word in re.findall(r"`([^`]+)`", topics)]:
            done = subprocess.run([os.path.join(BIN, "lagoon"), "help", topic], capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 0, topic)


class InAFolder(unittest.TestCase):
    """A folder laid out like a clone, with a home of its own and the build first in PATH."""

    def setUp(self):
        self.top = tempfile.mkdtemp(prefix="lagoon-readme-")
        self.here = os.path.join(self.top, "lagoon")
        shutil.copytree(os.path.join(ROOT, "configs"), os.path.join(self.here, "configs"))
        if os.path.isdir(DATA):
            os.mkdir(os.path.join(self.top, "shared"))
            os.symlink(DATA, os.path.join(self.top, "shared", "data"))
        self.home = os.path.join(self.top, "home")
        os.mkdir(self.home)
        self.environment = dict(os.environ, HOME=self.home, PATH=BIN + ":" + os.environ["PATH"])
        self.daemons = []

    def tearDown(self):
        self.shell("lagoon down", expect=None)
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()
        shutil.rmtree(self.top)

    def shell(self, line, expect=0):
        done = subprocess.run(["sh", "-c", line], cwd=self.here, env=self.environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=150 * SLOW)
        if expect is not None:
            self.assertEqual(done.returncode, expect, "%s\n%s%s" % (line, done.stdout, done.stderr))
        return done.stdout

    def shorten(self, file):
        """Under sanitizers a job's commands stay as they are, on a tenth of its samples."""
        if SLOW == 1:
            return
        path = os.path.join(self.here, file)
        with open(path) as job:
            text = job.read()
        shorter = re.sub(r"(train_samples: \d+)0\b", r"\1", text)
        self.assertNotEqual(shorter, text)
        with open(path, "w") as job:
            job.write(shorter)

    def write(self, name, text):
        with open(os.path.join(self.here, name), "w") as file:
            file.write(text)

    # ---- your own cluster on one machine

    def test_a_cluster_on_one_machine(self):
        text = section("Your own cluster on one machine")
        first, *lines = blocks(text, "sh")[0].strip().split("\n")
        self.assertTrue(first.startswith("make && sudo make install "), first)  # scripts/check_install.sh does it
        self.assertTrue(lines[0].startswith("lagoon up") and lines[-1].startswith("lagoon down"), lines)
        self.shorten("configs/jobs/glyphs-cnn.yaml")
        printed = {}
        for line in lines[:-1]:
            printed[line.split()[1]] = self.shell(line)
        self.assertIn("coordinator at tcp://127.0.0.1:", printed["up"])
        self.assertIn("was applied exactly once on all shards" if SLOW > 1 else
                      "every one of the 20,000 samples of each epoch was applied exactly once", printed["submit"])
        for word in ("staleness", "TRAINER", "EPOCH", "ledgers", "history:"):
            self.assertIn(word, printed["job"])
        self.check_model("glyphs-cnn.safetensors", printed["export"])
        self.run_the_override(text)
        with open(os.path.join(self.home, ".lagoon", "cluster.json")) as file:
            pids = [member["pid"] for member in json.load(file)["members"]]
        self.assertEqual(len(pids), 4)
        self.shell(lines[-1])
        self.assertEqual([pid for pid in pids if alive(pid)], [])

    def check_model(self, name, printed):
        shapes = tensors(os.path.join(self.here, name))
        counted = sum(self.elements(shape) for shape in shapes.values())
        self.assertIn("%d tensors, %s parameters" % (len(shapes), format(counted, ",")), printed)
        self.assertGreater(counted, 10000)

    @staticmethod
    def elements(shape):
        product = 1
        for size in shape:
            product *= size
        return product

    def run_the_override(self, text):
        command = re.search(r"`(lagoon submit [^`]*=[^`]*)`", text).group(1)
        name = re.search(r"job \d+ \"([\w-]+)\" submitted", self.shell(command)).group(1)
        specification = json.loads(self.shell("lagoon job %s --json" % name))
        self.assertEqual(specification["epochs"], int(re.search(r"train\.epochs=(\d+)", command).group(1)))
        self.shell("lagoon cancel " + name)

    # ---- on several machines

    def test_shown_files_are_right(self):
        shown = blocks(section("On several machines"), "yaml")
        self.assertEqual(len(shown), 3)
        for text in shown:
            name = re.match(r"# (\w+\.yaml)", text).group(1)
            self.write(name, text)
            kind = "worker" if name == "worker.yaml" else "server"
            self.assertIn("as a %s file" % kind, self.shell("lagoon config check " + name))
            elsewhere = " --data_root=." if kind == "worker" else ""  # /data need not be here
            self.shell("lagoon-%s -c %s --check%s" % (kind, name, elsewhere))

    def test_daemons_with_the_example_files(self):
        """The table's three commands; ports and the coordinator's address are overridden, as tests may run in pairs."""
        commands = re.findall(r"^\|[^|]*\| `(lagoon-(?:server|worker) -c (\S+))`", section("On several machines"), re.M)
        self.assertEqual([os.path.basename(file) for _, file in commands],
                         ["coordinator.yaml", "server.yaml", "worker.yaml"])
        where = self.start(commands[0][0] + " --bind=127.0.0.1:0 --http.port=0", "coordinator")["endpoint"]
        self.start("%s --coordinator=%s" % (commands[1][0], where), "server")
        self.start("%s --coordinator=%s" % (commands[2][0], where), "worker")
        self.shorten("configs/jobs/glyphs-cnn.yaml")
        self.shell("lagoon submit configs/jobs/glyphs-cnn.yaml train.epochs=1 --follow --coordinator=" + where)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.wait(20 * SLOW), 0)

    def start(self, command, name):
        """Starts a daemon and returns its ready file's document."""
        ready = os.path.join(self.top, name + ".ready")
        with open(os.path.join(self.top, name + ".log"), "wb") as log:
            self.daemons.append(subprocess.Popen(command.split() + ["--ready_file=" + ready], cwd=self.here,
                                                 env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                                                 stderr=log))
        wait_until(lambda: os.path.exists(ready) or self.daemons[-1].poll() is not None, 15, name + " is ready")
        with open(ready) as file:
            return json.load(file)


if __name__ == "__main__":
    unittest.main()
