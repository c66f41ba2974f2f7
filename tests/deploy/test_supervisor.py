"""The supervisor, with real processes."""

import io
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from deploy.local.errors import LocalError
from deploy.local.output import Stream
from deploy.local.process import Program, Running
from deploy.local.supervisor import Backoff, Child, Supervisor

SLEEP = "import time, os; print('pid', os.getpid(), flush=True); time.sleep(600)"

SUPERVISOR = textwrap.dedent("""
    import sys
    from deploy.local.output import Stream
    from deploy.local.process import Program
    from deploy.local.supervisor import Child, Supervisor
    stream = Stream(["a", "b", "c"])
    supervisor = Supervisor(stream, stop_order=["b", "c"])
    with supervisor:
        for name in "abc":
            supervisor.start(Child(Program(name, [sys.executable, "-c", sys.argv[1]]), stop_s=float(sys.argv[2])))
        supervisor.run()
    print("all ended")
""")


def python(name, source, **kwargs):
    return Child(Program(name, [sys.executable, "-c", source]), **kwargs)


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def supervisor(output):
    stream = Stream(["one", "two"], file=output)
    return Supervisor(stream, backoff=Backoff(first_s=0.01, most_s=0.02))


def read_pids(process, count):
    pids = []
    while len(pids) < count:
        line = process.stdout.readline()
        assert line, "the supervisor ended"
        if " pid " in line:
            pids.append(int(line.split()[-1]))
    return pids


@pytest.mark.parametrize("tie", ["prctl", "pipe"])
def test_a_program_dies_with_its_parent_that_is_killed(tie, script, gone, eventually):
    if tie == "prctl" and sys.platform != "linux":
        pytest.skip("prctl is Linux's")
    source = textwrap.dedent("""
        import sys
        from deploy.local.process import Program, Running
        running = Running(Program("p", [sys.executable, "-u", "-c", sys.argv[2]]), tie=sys.argv[1])
        for line in running.output:
            print("", line.decode().strip())
    """)
    parent = script(source, tie, SLEEP)
    (pid,) = read_pids(parent, 1)
    assert not gone(pid)
    parent.kill()
    eventually(lambda: gone(pid))


def test_nothing_is_left_when_the_supervisor_is_killed(script, gone, eventually):
    parent = script(SUPERVISOR, SLEEP, "10")
    pids = read_pids(parent, 3)
    parent.kill()
    eventually(lambda: all(gone(pid) for pid in pids))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_in_order(script, gone, signum):
    before = signal.signal(signum, signal.SIG_DFL)  # these tests may themselves run under nohup
    try:
        parent = script(SUPERVISOR, SLEEP, "10")
    finally:
        signal.signal(signum, before)
    pids = read_pids(parent, 3)
    parent.send_signal(signum)
    rest = parent.stdout.read()
    assert parent.wait(60) == 0
    assert all(gone(pid) for pid in pids)
    assert [line.split()[2] for line in rest.splitlines() if " ended " in line] == ["b", "c", "a"]
    assert rest.endswith("all ended\n")


def test_a_signal_that_is_ignored_stays_so_as_under_nohup(supervisor):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with supervisor:
            signal.raise_signal(signal.SIGHUP)
            assert not supervisor.stopping
            signal.raise_signal(signal.SIGTERM)
            assert supervisor.stopping
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_reader_that_leaves_ends_all(gone):
    chatter = "import os, time\nwhile True: print('pid', os.getpid(), flush=True); time.sleep(0.01)"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", SUPERVISOR, chatter, "10"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        pids = set(read_pids(parent, 10))
        parent.stdout.close()
        errors = parent.stderr.read()
    assert parent.returncode == 0
    assert errors == ""
    assert all(gone(pid) for pid in pids)


def test_what_does_not_end_is_killed_after_its_deadline(script, gone):
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
    parent = script(SUPERVISOR, stubborn, "0.2")
    pids = read_pids(parent, 3)
    parent.send_signal(signal.SIGTERM)
    rest = parent.stdout.read()
    assert parent.wait(60) == 0
    assert all(gone(pid) for pid in pids)
    assert "a killed: it did not end within" in rest


def test_a_second_signal_hurries(script, gone):
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
    parent = script(SUPERVISOR, stubborn, "500")
    pids = read_pids(parent, 3)
    parent.send_signal(signal.SIGINT)
    while "stopping" not in parent.stdout.readline():
        pass
    parent.send_signal(signal.SIGINT)
    assert "killed: in a hurry" in parent.stdout.read()
    assert parent.wait(60) == 0
    assert all(gone(pid) for pid in pids)


def test_grandchildren_do_not_outlive_a_program(tmp_path, supervisor, gone, eventually):
    note = tmp_path / "pid"
    source = f"""if True:
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(note)!r}, "w").write(str(child.pid))
        time.sleep(600)"""
    with supervisor:
        supervisor.start(python("one", source))
        eventually(lambda: note.exists() and note.read_text())
        grandchild = int(note.read_text())
        assert not gone(grandchild)
    eventually(lambda: gone(grandchild))


def test_a_program_that_ends_is_started_again(supervisor, output, tmp_path, gone):
    runs = tmp_path / "runs"
    source = f"open({str(runs)!r}, 'a').write('x'); raise SystemExit(3)"
    with supervisor:
        supervisor.start(python("one", source))
        supervisor.start(python("two", SLEEP))
        two = supervisor.pid("two")
        assert supervisor.wait_until(
            lambda: None if runs.exists() and len(runs.read_text()) >= 3 else "not yet", what="three runs", timeout_s=60
        )
        assert supervisor.pid("two") == two
    assert "one ended by itself after 0 s (status 3)" in output.getvalue()
    assert gone(two)


def test_a_killed_program_is_started_again_with_a_new_pid(supervisor, output):
    with supervisor:
        supervisor.start(python("one", SLEEP))
        first = supervisor.pid("one")
        os.kill(first, signal.SIGKILL)
        supervisor.wait_until(
            lambda: None if supervisor.pid("one") not in (None, first) else "not yet", what="a new pid", timeout_s=60
        )
    assert "SIGKILL" in output.getvalue()


def test_status_2_at_once_ends_everything(supervisor, gone):
    with pytest.raises(LocalError, match="one cannot start"), supervisor:
        supervisor.start(python("two", SLEEP))
        two = supervisor.pid("two")
        supervisor.start(python("one", "raise SystemExit(2)"))
        supervisor.run()
    assert gone(two)


def test_a_program_that_cannot_be_run_is_tried_again(supervisor, output):
    with supervisor:
        supervisor.start(Child(Program("one", ["/nonexistent/program"])))
        supervisor.wait_until(
            lambda: None if output.getvalue().count("starts again") > 1 else "not yet", what="two tries", timeout_s=60
        )
    assert "cannot run /nonexistent/program" in output.getvalue()


def test_waiting_for_an_answer_has_an_end(supervisor):
    with pytest.raises(LocalError, match="one did not answer within 0 s: asleep"), supervisor:
        supervisor.start(python("one", SLEEP))
        supervisor.wait_until(lambda: "asleep", what="one", timeout_s=0)


def test_the_wait_grows_to_a_minute_and_chance_only_shortens_it():
    backoff = Backoff()
    waits = [backoff.delay_s(n, 0.0) for n in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert all(w / 2 < backoff.delay_s(n, 0.999) <= w for n, w in enumerate(waits, 1))


def test_a_stable_run_sets_the_wait_back(output):
    now = [0.0]
    stream = Stream(["one"], file=output)
    supervisor = Supervisor(stream, clock=lambda: now[0], backoff=Backoff(first_s=1.0, stable_s=60.0))

    def again(count):
        now[0] += 100  # all waits are over, and the run was stable
        return None if output.getvalue().count("ended by itself") >= count else "not yet"

    with supervisor:
        supervisor.start(python("one", "pass"))
        supervisor.wait_until(lambda: again(4), what="4 runs", timeout_s=1e9)
    waits = [float(line.split()[-2]) for line in output.getvalue().splitlines() if "starts again" in line]
    assert len(waits) >= 4
    assert all(0.5 <= wait <= 1.0 for wait in waits)


def test_lines_carry_name_and_time_and_cannot_drive_the_terminal(supervisor, output, tmp_path):
    supervisor.log_dir = tmp_path
    source = (
        r"print('2026-01-31T23:59:58.123Z WARNING x \x1b[2J\u202e'); print('[bold]plain[/bold]'); print('y' * 40000)"
    )
    with supervisor:
        supervisor.start(python("one", source))
        supervisor.wait_until(
            lambda: None if "ended by itself" in output.getvalue() else "not yet", what="end", timeout_s=60
        )
    lines = output.getvalue().splitlines()
    assert r"23:59:58 one WARNING x \x1b[2J\u202e" in lines
    assert any(line.endswith("one [bold]plain[/bold]") for line in lines)
    assert max(map(len, lines)) < 20_000
    assert "\x1b[2J" in (tmp_path / "one.log").read_text(), "the file keeps the program's own words"


def test_stop_says_whether_it_had_to_kill():
    polite = Running(Program("p", [sys.executable, "-c", SLEEP]))
    assert polite.stop(60) is True
    polite.output.close()
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
    running = Running(Program("p", [sys.executable, "-u", "-c", stubborn]))
    running.output.readline()
    assert running.stop(0.1) is False
    running.output.close()
