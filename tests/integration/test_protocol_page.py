"""docs/protocol.md names every message, field, number and limit of the sources, and its example runs."""

import os
import re
import subprocess
import sys
import unittest

ROOT = os.environ.get("LAGOON_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

INNER = {"Header", "KeyValue", "Cover", "LedgerRow", "ShardJobStats", "ShardAddress", "DeviceStats"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def messages():
    """{name: [(repeated, type, field, number)]} of lagoon.proto."""
    text = re.sub(r"//.*", "", read("proto/lagoon.proto"))
    text = re.sub(r"oneof \w+ \{([^}]*)\}", r"\1", text)
    found = {}
    for name, body in re.findall(r"\bmessage (\w+) \{([^}]*)\}", text):
        found[name] = re.findall(r"(repeated )?\b(\w+) (\w+) = (\d+);", body)
    return found


def enums():
    text = re.sub(r"//.*", "", read("proto/lagoon.proto"))
    return {name: re.findall(r"(\w+) = (\d+)", body) for name, body in re.findall(r"\benum (\w+) \{([^}]*)\}", text)}


class ProtocolPage(unittest.TestCase):
    page = read("docs/protocol.md")

    def section(self, kind):
        """The text of the ### heading that names `kind`, or of the whole chapter where it is a part of others."""
        for block in re.split(r"^### ", self.page, flags=re.M)[1:]:
            if re.search(r"\b%s \(\d+\)" % kind, block.split("\n", 1)[0]):
                return block
        self.fail("no section of %s" % kind)

    def test_every_body_has_a_section_with_its_fields(self):
        all_messages = messages()
        self.assertGreater(len(all_messages["Header"]), 30)
        for _, message, member, number in all_messages["Header"]:
            if message in ("uint32", "uint64"):
                continue
            kind = member.upper()
            section = self.section(kind)
            self.assertIn("%s (%s)" % (kind, number), section.split("\n", 1)[0])
            for repeated, _, field, _ in all_messages[message]:
                written = "`%s[]`" % field if repeated else "`%s`" % field
                self.assertIn(written, section, "%s.%s" % (message, field))

    def test_every_inner_message_is_explained(self):
        all_messages = messages()
        bodies = {message for _, message, _, _ in all_messages["Header"]}
        self.assertEqual(set(all_messages) - bodies, INNER)
        for name in sorted(INNER - {"Header"}):
            self.assertIn(name, self.page)
            for _, _, field, _ in all_messages[name]:
                self.assertIn("`%s`" % field, self.page, "%s.%s" % (name, field))

    def test_every_enum_value_is_named(self):
        for name, values in enums().items():
            for value, number in values:
                self.assertRegex(self.page, r"\b%s %s\b" % (value, number), "%s.%s" % (name, value))

    def test_every_status_is_listed(self):
        statuses = re.findall(r'^X\(\w+, (\d+), "([^"]*)", "([^"]*)"\)', read("common/status.def"), re.M)
        self.assertGreater(len(statuses), 10)
        for status in statuses:
            self.assertIn("| %s | %s | %s |" % status, self.page)

    def test_every_limit_is_told(self):
        header = read("proto/wire.h")
        told = {
            "WIRE_HEADER_BYTES_MAX": ("64 * 1024", "| header frame | 65,536 bytes |"),
            "WIRE_TEXT_BYTES_MAX": ("4096", "| text | 4,096 bytes |"),
            "WIRE_PAIRS_MAX": ("512", "| key/value pairs of a spec | 512 |"),
            "WIRE_SHARDS_MAX": ("1024", "| shards of a job or server, devices of an agent | 1,024 |"),
            "WIRE_LINES_MAX": ("256", "| log lines, warnings in one message | 256 |"),
            "WIRE_MARKS_MAX": ("4096", "| marks, cuts in one message | 4,096 |"),
            "WIRE_ROWS_MAX": ("1024", "| ledger rows, running trainers in one message | 1,024 |"),
            "WIRE_STATS_MAX": ("256", "| job statistics in one BEAT | 256 |"),
            "WIRE_DEVICES_MAX": ("64", "| devices with numbers in one BEAT | 64 |"),
            "WIRE_COVERS_MAX": ("256", "| covers of a push | 1 to 256 |"),
            "WIRE_UNITS_MAX": ("4096", "| entries of a unit table | 4,096 |"),
            "WIRE_PAYLOAD_FRAMES_MAX": ("256", "| payload frames of a message | 256 |"),
            "WIRE_TENSOR_RECORD_BYTES": ("144", "144 bytes for each tensor"),
            "WIRE_TENSORS_MAX": ("(8 << 20) / 144", "| tensors of a job | 58,254 "),
            "WIRE_PLACEMENT_MAX": ("(8 << 20) / 2", "| units of a job | 4,194,304 "),
            "WIRE_PART_BYTES": ("1 << 20", "should aim at 1 MiB"),
            "WIRE_PAYLOAD_BYTES_MAX": ("4 << 20", "| payload of a message | 4 MiB"),
        }
        found = dict(re.findall(r"^ +(WIRE_\w+) = (.*?) *(?:,|/\*|$)", header, re.M))
        limits = {name for name in found if name.endswith(("_MAX", "_BYTES"))}
        self.assertEqual(limits, set(told))
        for name, (value, text) in told.items():
            self.assertEqual(found[name], value, name)
            self.assertIn(text, self.page, name)

    def test_the_example_runs(self):
        (example,) = re.findall(r"^```python\n(.*?)^```$", self.page, re.M | re.S)
        done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.splitlines(), [
            "conv.weight (8, 1, 5, 5) 1.0 0 0",
            "dense.weight (300, 500) 0.5 0 0",
            "dense.bias (300,) 2.0 0 2",
            "mean () 1.0 2 1",
        ])

    def test_the_bytes_shown_are_the_golden_ones(self):
        shown = re.search(r"^```\n(08 01 .*?)^```$", self.page, re.M | re.S).group(1)
        digits = "".join(re.match(r" *((?:[0-9a-f]{2} ?)+)(?: {2}|$)", line).group(1) for line in shown.splitlines())
        with open(os.path.join(ROOT, "tests/golden/error.bin"), "rb") as file:
            self.assertEqual(file.read()[4:], bytes.fromhex(digits))


if __name__ == "__main__":
    unittest.main()
