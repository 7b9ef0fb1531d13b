"""How scripts/gpu_check.py runs programs and steps: with time limits, into logs, one table row after the other."""
import concurrent.futures
import contextlib
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PASS, FAIL, NOT_RUN, LEFT_OUT = "PASS", "FAIL", "NOT RUN", "left out"


class Stop(Exception):
    """Ends the run with an exit code before any step."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class NotRun(Exception):
    """This step cannot run here; its text says why."""


class Check:
    def __init__(self, args):
        self.args = args
        self.start = time.monotonic()
        self.rows = []
        self.of_step = threading.local()
        self.program = None
        self.environment = dict(os.environ)
        self.devices = []
        self.cpu = None
        self.facts = {}
        self.peers = {}
        self.out = pathlib.Path(args.out)
        self.logs = self.out / "logs"
        self.scratch = None
        self.dry = bool(os.environ.get("CONCORD_GPU_CHECK_DEVICES"))

    def left(self):
        return self.args.budget - (time.monotonic() - self.start)

    def run(self, name, command, limit, environment=None):
        """Runs a program in a process group of its own, output into logs/NAME.log. Returns its exit code; None: out of time."""
        limit = min(limit, self.left() - 5)
        if limit < 3:
            raise NotRun("the time was used up")
        with open(self.logs / f"{name}.log", "wb") as log:
            log.write(("$ " + " ".join(map(str, command)) + "\n").encode())
            log.flush()
            process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment or self.environment,
                                       stdin=subprocess.DEVNULL, start_new_session=True)
            try:
                return process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                return None
            finally:
                with contextlib.suppress(ProcessLookupError):  # what the program left behind, too: it has its own group
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def concord(self, name, *arguments, limit):
        return self.run(name, [self.program, *arguments], limit)

    def json_of(self, path):
        try:
            return json.loads(pathlib.Path(path).read_text())
        except (OSError, ValueError):
            return None

    def last_line(self, name):
        lines = [line for line in (self.logs / f"{name}.log").read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:160] if lines else ""

    def add(self, step, result, number="", target="", note="", seconds=None):
        rows = getattr(self.of_step, "rows", self.rows)
        rows.append({"step": step, "result": result, "number": number, "target": target, "note": note,
                     "seconds": None if seconds is None else round(seconds, 1)})

    def step(self, name, body, asked=True):
        """Runs body(self), which adds its own rows; an exception becomes a row. The next step runs whatever happened."""
        self.rows += self.rows_of(name, body, asked)

    def side_by_side(self, steps):
        """Steps whose times nobody compares."""
        with concurrent.futures.ThreadPoolExecutor(max_workers=len(steps)) as pool:
            for rows in pool.map(lambda one: self.rows_of(*one), steps):
                self.rows += rows

    def rows_of(self, name, body, asked=True):
        self.of_step.rows = rows = []
        begin = time.monotonic()
        try:
            if not asked:
                self.add(name, LEFT_OUT, note="not asked for (--quick)")
                return rows
            print(f"-- {name}", flush=True)
            if self.left() < 10:
                raise NotRun("the time was used up")
            body(self)
        except NotRun as why:
            self.add(name, NOT_RUN, note=str(why))
        except Stop:
            raise
        except Exception as error:  # a defect of this script must not hide the steps that ran
            self.add(name, FAIL, note=f"gpu_check.py: {type(error).__name__}: {error}")
        finally:
            del self.of_step.rows
        if rows:
            rows[0]["seconds"] = round(time.monotonic() - begin, 1)
        return rows

    def whole(self, part):
        """The result of a tier that passed: of a part of it, on a GPU, nothing is claimed."""
        return NOT_RUN if part and not self.dry else PASS

    def ended(self, name, code):
        """A row for a program that did not end with 0; True where it did."""
        if code == 0:
            return True
        self.add(name, FAIL, note="out of time" if code is None else f"exit {code}: {self.last_line(name)}")
        return False


def gpu_is_here():
    return bool(glob.glob("/dev/nvidia[0-9]*") or os.path.exists("/dev/kfd") or
                (shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0))


def driver_text():
    if not shutil.which("nvidia-smi"):
        return ""
    done = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"],
                          capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
