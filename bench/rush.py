#!/usr/bin/env python3
"""200 people type their passwords at once: what the gate's slowest answers cost meanwhile, beside a calm moment.

    PEERS=/path/to/the/harness bench/rush.py [--rounds 5] [--people 200]

A check is asked 300 times a second over 8 connections; its p99 while nobody signs in, and while PEOPLE do, each from an
address of his own. The gate must not wait for password hashing (rule 9): at most twice.
"""
import argparse, http.client, statistics, threading, time, urllib.parse

import stage

PASSWORD = "correct horse battery staple 7"  # ada's, by prepare.sh


def p99(served, seconds):
    return served.check(f"{served.folder}/signed-in", "--seconds", seconds, "--conns", 8, "--rate", 300)["p99_us"]


def sign_in(person, statuses):
    connection = http.client.HTTPConnection("127.0.0.1", 9300, timeout=120)
    body = urllib.parse.urlencode({"username": f"user-{person}", "password": PASSWORD})
    headers = {
        "Host": "localhost:9300", "Origin": "http://localhost:9300", "Content-Type": "application/x-www-form-urlencoded",
        "X-Forwarded-For": f"198.18.{person // 250}.{person % 250 + 1}",
    }
    connection.request("POST", "/login", body, headers)
    statuses.append(connection.getresponse().status)


def one_round(served, first, people):
    """The p99 in a calm moment and in a rush by people who have not signed in yet; what they were answered."""
    p99(served, 1)
    calm = p99(served, 3)
    statuses = []
    began = time.time()
    people = [threading.Thread(target=sign_in, args=(person, statuses)) for person in range(first, first + people)]
    for person in people:
        person.start()
    rush = p99(served, 3)
    for person in people:
        person.join()
    return calm, rush, statuses, time.time() - began


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--people", type=int, default=200)
    given = arguments.parse_args()
    ratios = []
    with stage.Served("small", password_of="ada") as served:
        served.logins(500)
        for n in range(given.rounds):
            # Those of the logins are signed in; others come now.
            calm, rush, statuses, took = one_round(served, 1000 + n * given.people, given.people)
            ratios.append(rush / calm)
            counted = {status: statuses.count(status) for status in sorted(set(statuses))}
            print(f"round {n + 1}: p99 {calm} -> {rush} us; sign-ins answered {counted} within {took:.1f} s; {stage.load()}", flush=True)
    stage.judged(f"p99 of the gate while {given.people} sign in, x calm", statistics.median(ratios), 2, f", {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
