"""The test runner itself: what it counts, and that it can fail. Runs a copy of tests/run.py on a made-up tree."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

RUNNER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "run.py")
GOOD = "echo 'Running suite(s): a'; echo '100%: Checks: 3, Failures: 0, Errors: 0'"
PYTHON = "import unittest\nclass T(unittest.TestCase):\n"


class RunnerTest(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="lagoon-run-")
        self.addCleanup(shutil.rmtree, self.root)
        os.makedirs(os.path.join(self.root, "tests"))
        shutil.copy(RUNNER, os.path.join(self.root, "tests"))

    def write(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def add_check(self, name, script):
        self.write("tests/unit/%s_test.c" % name, "")
        self.write("b/tests/unit/%s_test" % name, "#!/bin/sh\n" + script + "\n")

    def add_python(self, name, body):
        self.write("tests/integration/test_%s.py" % name, PYTHON + body + "\nif __name__ == '__main__': unittest.main()\n")

    def run_tests(self, *arguments, data="none"):
        env = dict(os.environ, BUILD="b", DATA=data)
        done = subprocess.run([sys.executable, "tests/run.py", *arguments], cwd=self.root, env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        return done.returncode, done.stdout, done.stdout.rstrip().splitlines()[-1]

    def expect(self, last, status, *words, arguments=(), data="none"):
        got = self.run_tests(*arguments, data=data)
        self.assertEqual((got[2], got[0]), (last, status), got[1])
        for word in words:
            self.assertIn(word, got[1])
        return got[1]

    def test_nothing_is_a_failure(self):
        self.expect("0 passed, 0 failed, 0 skipped", 1, "nothing ran")

    def test_both_kinds_are_counted(self):
        self.add_check("a", GOOD)
        self.add_python("b", "    def test_one(self): pass\n    def test_two(self): pass")
        self.expect("5 passed, 0 failed, 0 skipped", 0)
        self.expect("3 passed, 0 failed, 0 skipped", 0, arguments=["--only", "unit"])
        self.expect("2 passed, 0 failed, 0 skipped", 0, arguments=["--filter", "integration/test_b"])

    def test_failures_are_counted_and_shown(self):
        self.add_check("a", "echo 'the reason'; echo '33%: Checks: 3, Failures: 1, Errors: 1'; exit 1")
        self.add_python("b", "    def test_one(self): pass\n    def test_two(self): self.fail('a cause')")
        self.expect("2 passed, 3 failed, 0 skipped", 1, "the reason", "a cause")

    def test_crashes_and_empty_programs_fail(self):
        self.add_check("a", "echo partial; kill -9 $$")
        self.expect("0 passed, 1 failed, 0 skipped", 1, "killed by signal 9", "partial")
        self.add_check("a", "echo partial")
        self.expect("0 passed, 1 failed, 0 skipped", 1, "no closing line", "partial")
        self.add_check("a", GOOD + "; exit 3")
        self.expect("3 passed, 1 failed, 0 skipped", 1, "exit status 3")
        self.add_check("a", "echo '100%: Checks: 0, Failures: 0, Errors: 0'")
        self.expect("0 passed, 1 failed, 0 skipped", 1, "ran no checks")

    def test_a_program_that_was_not_built_fails(self):
        self.write("tests/unit/a_test.c", "")
        self.expect("0 passed, 1 failed, 0 skipped", 1, "cannot run")

    def test_broken_modules_fail(self):
        self.write("tests/integration/test_b.py", "import nowhere_to_be_found\n")
        self.expect("0 passed, 1 failed, 0 skipped", 1, "nowhere_to_be_found")
        self.write("tests/integration/test_b.py", "pass\n")
        self.expect("0 passed, 1 failed, 0 skipped", 1, "no summary")

    def test_skips_are_listed(self):
        self.add_check("a", "echo 'SKIP: no such device'; " + GOOD)
        self.add_python("b", "    @unittest.skip('wrong moon')\n    def test_one(self): pass\n    def test_two(self): pass")
        self.expect("3 passed, 0 failed, 2 skipped", 0, "unit/a_test: no such device", "integration/test_b: wrong moon")

    def test_skips_for_data_that_is_there_fail(self):
        self.add_check("a", "echo 'SKIP: the MNIST data is not there'; " + GOOD)
        self.expect("2 passed, 0 failed, 1 skipped", 0)
        os.mkdir(os.path.join(self.root, "data"))
        self.expect("2 passed, 1 failed, 0 skipped", 1, "skipped for missing data", data="data")

    def test_time_outs_kill_the_whole_group(self):
        self.add_check("a", "sleep 1000 & echo $! > pid; sleep 1000")
        self.expect("0 passed, 1 failed, 0 skipped", 1, "time-out", arguments=["--timeout", "0.5"])
        self.expect_gone()

    def test_processes_left_behind_fail(self):
        self.add_check("a", "sleep 1000 & echo $! > pid; " + GOOD)
        self.expect("3 passed, 1 failed, 0 skipped", 1, "still running")
        self.expect_gone()

    def test_a_stopped_run_leaves_nothing(self):
        self.add_check("a", "sleep 1000 & echo $! > pid; sleep 1000")
        env = dict(os.environ, BUILD="b", DATA="none")
        run = subprocess.Popen([sys.executable, "tests/run.py"], cwd=self.root, env=env)
        deadline = time.monotonic() + 30
        path = os.path.join(self.root, "pid")
        while not (os.path.exists(path) and os.path.getsize(path)):
            self.assertLess(time.monotonic(), deadline, "the test did not start")
            time.sleep(0.01)
        run.terminate()
        self.assertEqual(run.wait(30), 128 + 15)
        self.expect_gone()

    def expect_gone(self):
        with open(os.path.join(self.root, "pid"), encoding="utf-8") as file:
            status = "/proc/%d/stat" % int(file.read())
        deadline = time.monotonic() + 30
        while os.path.exists(status):
            with open(status, encoding="utf-8") as file:
                if file.read().split()[2] == "Z":
                    return
            self.assertLess(time.monotonic(), deadline, "the child lives on")
            time.sleep(0.01)

    def test_sanitizer_reports_fail(self):
        self.add_check("a", "path=$(echo \"$ASAN_OPTIONS\" | sed 's/.*log_path=\\([^:]*\\).*/\\1/'); "
                            "echo 'heap-use-after-free' > \"$path.1\"; " + GOOD)
        self.expect("3 passed, 1 failed, 0 skipped", 1, "heap-use-after-free")


if __name__ == "__main__":
    unittest.main()
