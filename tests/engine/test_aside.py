"""What may block is done beside the worker, one thing after the other, by a thread that is there only meanwhile."""

from __future__ import annotations

import threading

from svcmesh.engine.aside import Aside


def named(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_jobs_are_done_in_order_on_one_thread_that_ends():
    aside, done = Aside("beside"), []
    go = threading.Event()
    aside.run("first", lambda: go.wait(30))
    for number in range(5):
        aside.run(number, lambda number=number: done.append((number, threading.current_thread().name)))
    assert len(named("beside")) == 1
    go.set()
    aside.join(30)

    assert done == [(number, "beside") for number in range(5)]
    assert named("beside") == []


def test_what_waits_is_replaced_by_what_is_newer():
    """A disk that hangs gathers no more than one job for each file."""
    aside, done = Aside("beside"), []
    begun, go = threading.Event(), threading.Event()
    aside.run("blocking", lambda: (begun.set(), go.wait(30)))
    assert begun.wait(30)
    for number in range(100):
        aside.run("same", lambda number=number: done.append(number))
    aside.run("other", lambda: done.append("other"))
    go.set()
    aside.join(30)

    assert done == [99, "other"]


def test_joining_waits_no_longer_than_it_is_told():
    aside, go = Aside("beside"), threading.Event()
    aside.join(30)
    aside.run("hangs", lambda: go.wait(30))
    aside.join(0.01)
    assert named("beside"), "it has not ended, and is a daemon"
    assert named("beside")[0].daemon
    go.set()
    aside.join(30)


def test_a_job_may_join_itself_and_ask_for_more():
    aside, done = Aside("beside"), []
    aside.run("one", lambda: (aside.join(30), aside.run("two", lambda: done.append("two"))))
    aside.join(30)

    assert done == ["two"]


def test_where_no_thread_can_be_had_nothing_is_done_and_nothing_raised(monkeypatch):
    """At the end of the interpreter, or where the system has no thread left."""
    aside, done = Aside("beside"), []

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        aside.run("one", lambda: done.append("one"))
        assert done == []
    aside.run("two", lambda: done.append("two"))
    aside.join(30)

    assert done == ["one", "two"]


def test_a_forked_child_begins_without_jobs():
    aside, done, go = Aside("beside"), [], threading.Event()
    aside.run("blocking", lambda: go.wait(30))
    aside.run("parent", lambda: done.append("parent"))
    parents = named("beside")
    aside.reset_after_fork()
    aside.run("child", lambda: done.append("child"))
    aside.join(30)
    assert done == ["child"]
    go.set()
    for thread in parents:
        thread.join(30)
