#!/usr/bin/env python3
"""Runs Lagoon's tests: Check programs and Python integration tests. Standard library only.

    BUILD=build/release DATA=../shared/data tests/run.py [--only unit,integration] [--filter TEXT] [--timeout S]

Prints one line per file, the whole output of a file that failed, the skips, and as its last line
"N passed, N failed, N skipped". Exits 1 when anything failed or nothing ran.

A test that cannot run prints a line "SKIP: reason" (or uses unittest's skip). A skip whose reason is missing data
counts as a failure when the data folder is there. Reports of the sanitizers fail the file, also those of daemons that
the test started; so does a process that outlives its test.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHECK_KINDS = ["unit", "conformance", "golden", "sim", "gpu"]
KINDS = CHECK_KINDS + ["integration"]
CHECK_LINE = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)
PYTHON_RAN = re.compile(r"^Ran (\d+) tests? in", re.M)
PYTHON_END = re.compile(r"^(?:OK|FAILED|NO TESTS RAN)(?: \((.*)\))?$", re.M)
OUTPUT_LINES_MAX = 400
running = set()  # process groups of the tests under way


class Result:
    """Counts of one file, the reasons of its skips, and what to print when it failed."""

    def __init__(self, name):
        self.name = name
        self.passed = self.failed = 0
        self.skips = []
        self.output = ""
        self.seconds = 0.0

    def fail(self, reason):
        self.failed += 1
        self.output += "\n" + reason + "\n"


def environment(build, data, reports):
    """What a test sees: where programs and data are, and sanitizers that write into `reports`."""
    env = dict(os.environ, LAGOON_BIN=os.path.join(build, "bin"), LAGOON_DATA=data, LAGOON_ROOT=ROOT)
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    suppressions = os.path.join(ROOT, "tests", "support", "tsan.supp")
    defaults = {
        "ASAN_OPTIONS": "detect_stack_use_after_return=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # Trainers that are asked to stop while they wait leave by _exit, with their threads.
        "TSAN_OPTIONS": "second_deadlock_stack=1:report_thread_leaks=0:suppressions=" + suppressions,
    }
    # Check's own limit of 4 seconds says how busy the machine is. What hangs is ended here all the same.
    env.setdefault("CK_DEFAULT_TIMEOUT", "30")
    env.setdefault("CK_TIMEOUT_MULTIPLIER", "6" if "san-" in build else "2")
    for name, options in defaults.items():  # what comes later wins: the caller over the defaults
        env[name] = ":".join([options, os.environ.get(name, ""), "log_path=" + os.path.join(reports, "report")])
    return env


def kill_group(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stop(number, _frame):
    """SIGTERM and SIGINT: leaves nothing running."""
    for group in list(running):
        kill_group(group)
    os._exit(128 + number)


def group_is_alive(group):
    try:
        os.killpg(group, 0)
        return True
    except (ProcessLookupError, PermissionError):
        return False


def run_command(command, env, timeout, result):
    """Runs `command` in its own process group; returns (exit status or None at the time-out, output)."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=subprocess.STDOUT, start_new_session=True)
        running.add(child.pid)
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
            kill_group(child.pid)
            child.wait()
        if status is not None and group_is_alive(child.pid):
            result.fail("a process that the test started was still running after it")
            kill_group(child.pid)
        running.discard(child.pid)
        output.seek(0)
        return status, output.read().decode("utf-8", "replace")


def count_check(output, result):
    """Sums the closing lines of a Check program; returns the number of checks."""
    lines = CHECK_LINE.findall(output)
    checks = sum(int(line[0]) for line in lines)
    bad = sum(int(line[1]) + int(line[2]) for line in lines)
    result.failed += bad
    if not lines:
        result.fail("no closing line of the form \"100%: Checks: N, Failures: N, Errors: N\"")
    elif checks == 0:
        result.fail("the program ran no checks")
    return checks - bad


def count_python(output, result):
    """Reads unittest's summary; returns the number of tests that did not fail."""
    ran = PYTHON_RAN.findall(output)
    end = PYTHON_END.findall(output)
    if not ran or not end:
        result.fail("unittest printed no summary")
        return 0
    counts = dict(re.findall(r"([a-z ]+)=(\d+)", end[-1]))
    counts = {name.strip(): int(number) for name, number in counts.items()}
    bad = sum(counts.get(name, 0) for name in ("failures", "errors", "unexpected successes"))
    result.failed += bad
    skipped = re.findall(r"skipped ['\"](.*)['\"]$", output, re.M)
    missing = counts.get("skipped", 0) - len(skipped)
    result.skips += skipped + ["no reason given"] * max(0, missing)
    total = int(ran[-1])
    if total == 0 and not counts:
        result.fail("the file ran no tests")
    return max(0, total - bad)


def sort_skips(result, data, counted):
    """Splits `counted` tests that did not fail into passed and skipped; a skip for missing data that is there fails."""
    result.passed = max(0, counted - len(result.skips))
    if not os.path.isdir(data):
        return
    blamed = [reason for reason in result.skips if re.search(r"\bdata(set|sets)?\b", reason, re.I)]
    for reason in blamed:
        result.skips.remove(reason)
        result.fail("skipped for missing data, but \"%s\" is there: %s" % (data, reason))


def add_reports(reports, result):
    """Adds what sanitizers wrote, in the test itself or in daemons that it started."""
    for name in sorted(os.listdir(reports)):
        with open(os.path.join(reports, name), encoding="utf-8", errors="replace") as file:
            text = file.read()
        if text.strip():
            result.fail("sanitizer report %s:\n%s" % (name, text))


def run_file(name, command, is_check, args):
    """Runs one test file and returns its Result."""
    result = Result(name)
    reports = tempfile.mkdtemp(prefix="lagoon-reports-")
    started = time.monotonic()
    try:
        env = environment(args.build, args.data, reports)
        status, output = run_command(command, env, args.timeout, result)
        result.output = output + result.output
        result.skips = [line[5:].strip() for line in output.splitlines() if line.startswith("SKIP:")]
        if status is None:
            result.fail("killed after the time-out of %d s" % args.timeout)
        elif status < 0:
            result.fail("killed by signal %d" % -status)
        else:
            before = result.failed
            counted = count_check(output, result) if is_check else count_python(output, result)
            if status != 0 and result.failed == before:
                result.fail("exit status %d" % status)
            sort_skips(result, args.data, counted)
        add_reports(reports, result)
    except OSError as problem:
        result.fail("cannot run %s: %s" % (command[0], problem))
    finally:
        shutil.rmtree(reports, ignore_errors=True)
    result.seconds = time.monotonic() - started
    return result


def find_files(args):
    """Yields (name, command, is_check) for every test source of the kinds asked for."""
    for kind in KINDS:
        folder = os.path.join(ROOT, "tests", kind)
        if kind not in args.only or not os.path.isdir(folder):
            continue
        for file in sorted(os.listdir(folder)):
            stem, extension = os.path.splitext(file)
            name = "%s/%s" % (kind, stem)
            if args.filter not in name:
                continue
            if kind in CHECK_KINDS and file.endswith("_test.c"):
                program = os.path.join(args.build, "tests", kind, stem)
                if kind != "gpu" or os.path.exists(program):
                    yield name, [program], True
            elif kind == "integration" and file.startswith("test_") and extension == ".py":
                yield name, [sys.executable, os.path.join(folder, file), "-v"], False


def print_result(result, color):
    verdict = "FAIL" if result.failed else "ok  "
    if color:
        verdict = "\033[%dm%s\033[0m" % (31 if result.failed else 32, verdict)
    counts = "%d" % (result.passed + result.failed)
    if result.skips:
        counts += ", %d skipped" % len(result.skips)
    print("%s %-44s %6.2f s  %s" % (verdict, result.name, result.seconds, counts))
    if result.failed:
        lines = result.output.rstrip().splitlines()
        if len(lines) > OUTPUT_LINES_MAX:
            print("    (%d lines left out)" % (len(lines) - OUTPUT_LINES_MAX))
        for line in lines[-OUTPUT_LINES_MAX:]:
            print("    " + line)
    sys.stdout.flush()


def run_all(files, args):
    """Check programs run side by side, integration tests one after the other."""
    color = sys.stdout.isatty()
    results = []
    beside = [file for file in files if file[2]]
    alone = [file for file in files if not file[2]]
    pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
    for future in [pool.submit(run_file, *file, args) for file in beside]:
        results.append(future.result())
        print_result(results[-1], color)
    for file in alone:
        results.append(run_file(*file, args))
        print_result(results[-1], color)
    return results


def parse_arguments():
    build = os.environ.get("BUILD", "build/release")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(KINDS), help="kinds to run, comma-separated: %(default)s")
    parser.add_argument("--filter", default="", help="run the files whose name contains this text")
    parser.add_argument("--timeout", type=float, default=0, help="seconds a file may take (default: 180, 720 in "
                        "sanitizer builds)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="Check programs at a time")
    args = parser.parse_args()
    args.only = args.only.split(",")
    for kind in args.only:
        if kind not in KINDS:
            parser.error("unknown kind \"%s\"; there are %s" % (kind, ", ".join(KINDS)))
    args.build = os.path.join(ROOT, build)
    args.data = os.path.abspath(os.path.join(ROOT, os.environ.get("DATA", "../shared/data")))
    args.timeout = args.timeout or (720 if "san-" in build else 180)
    return args


def main():
    args = parse_arguments()
    results = run_all(list(find_files(args)), args)
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results)
    skipped = sum(len(result.skips) for result in results)
    for result in results:
        for reason in result.skips:
            print("skipped in %s: %s" % (result.name, reason))
    if not passed and not failed:
        print("nothing ran: no test file matches in %s" % args.build)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main())
