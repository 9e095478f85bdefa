"""One process of the hot key with kazoo's Lock: CONNECT PATH FILE TASKS WARM_UP_MS DURATION_MS"""
import json
import os
import sys
import threading
import time

from kazoo.client import KazooClient

connect, path, name, tasks, warm_up_ms, duration_ms = sys.argv[1:7]
file = os.open(name, os.O_RDWR)
client = KazooClient(hosts=connect)
client.start()
begin = time.monotonic() + int(warm_up_ms) / 1000
end = begin + int(duration_ms) / 1000
tallies = []


def add_one():
    count = int(os.pread(file, 20, 0))
    os.pwrite(file, b"%020d" % (count + 1), 0)


def work():
    lock = client.Lock(path)
    total = measured = 0
    longest = 0.0
    while time.monotonic() < end:
        asked = time.monotonic()
        lock.acquire()
        waited = time.monotonic() - asked
        try:
            add_one()
        finally:
            lock.release()
        total += 1
        if begin <= time.monotonic() < end:
            measured += 1
            longest = max(longest, waited)
    tallies.append((total, measured, longest))


threads = [threading.Thread(target=work) for _ in range(int(tasks))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
client.stop()
total, measured = (sum(tally[at] for tally in tallies) for at in (0, 1))
longest = max(tally[2] for tally in tallies)
print(json.dumps({"total": total, "measured": measured, "longestWaitMs": longest * 1000}))
