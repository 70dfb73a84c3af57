"""`python -m tests.fuzz SECONDS [TARGET ...]`: atheris looks for bytes that raise, take over a second or 256 MiB.

Without names, all targets are fuzzed; `listener:` is all that begin so. Each runs in a process of its own and gets its
part of the seconds. What is found is kept in the folder `fuzzed`; `python -m tests.fuzz TARGET FILE` shows it again.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.seeds import AWKWARD, seeds
from tests.fuzz.targets import CUT, targets
from tests.realprograms import of_its_own


def fuzz(name: str, seconds: int, kept: Path = Path("fuzzed")) -> tuple[bool, str]:
    """Fuzz one target (or `all`) in a process of its own: whether nothing was found, and what libFuzzer said."""
    kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus, words = Path(folder) / "corpus", Path(folder) / "words"
        corpus.mkdir()
        for number, seed in enumerate(_starts(name)):
            (corpus / f"{number}").write_bytes(seed)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in [*AWKWARD, CUT]))
        command = [sys.executable, "-m", "tests.fuzz.one", name, f"-max_total_time={seconds}", f"-dict={words}"]
        command += ["-timeout=60", "-rss_limit_mb=256", "-max_len=8192", f"-artifact_prefix={kept}/", str(corpus)]
        done = subprocess.run(of_its_own(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode == 0, done.stdout.decode(errors="replace")


def _starts(name: str) -> list[bytes]:
    """What a target begins with; the NUL says that it comes in one piece."""
    if name != "all":
        return [b"\0" + seed for seed in seeds(name)]
    return [bytes([number]) + start for number, one in enumerate(targets()) for start in _starts(one)[:5]]


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def main(arguments: list[str]) -> int:
    """Fuzz what the arguments name; returns the exit code."""
    known = targets()
    if len(arguments) == 2 and arguments[0] in known:
        known[arguments[0]](Path(arguments[1]).read_bytes())
        return 0
    if not arguments or not arguments[0].isdigit():
        sys.stderr.write(f"{__doc__}\n" + "".join(f"  {name}\n" for name in known))
        return 2
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed: it has packages for some versions of Python only\n")
        return 2
    beginnings = tuple(arguments[1:]) or ("",)
    chosen = [name for name in known if name.startswith(beginnings)]
    failed = 0
    for name in chosen:
        good, said = fuzz(name, max(1, int(arguments[0]) // len(chosen)))
        runs, covered = re.findall(r"Done (\d+) runs", said), re.findall(r"cov: (\d+)", said)
        sys.stdout.write(f"{name}: {runs[-1] if runs else '?'} runs, {covered[-1] if covered else '?'} branches\n")
        if not good:
            failed += 1
            sys.stdout.write("\n".join(said.splitlines()[-40:]) + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"{failed} of {len(chosen)} targets have failed\n")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
