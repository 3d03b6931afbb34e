#!/usr/bin/env python3
"""What a request costs through each way of the gate, x the floor of that way, measured by turns in the same seconds.

    PEERS=/path/to/the/harness bench/ways.py [--rounds 5] [--connections 1,16,64,256] [--seconds 1]

CPU is user and system time of the service alone (behind nginx: nginx and the service together), from /proc; it is divided
by the answers that wrk counted. Rates and times move with whatever else the machine does, these ratios much less: read
them, and the load average beside them. A missed bar is printed and never an error. Upstream and load run on processor 1.
"""
import argparse, contextlib, os, re, shutil, statistics, subprocess, sys, time

import stage

FULL, FLOOR_HEADERS, FLOOR_PROXY, NGINX_PROXY, NGINX_FULL, NGINX_DOORWARD = 9293, 9294, 9296, 9297, 9298, 9299
SID = "sid=0123456789abcdef0123456789abcdef0123456789a"  # what the harness's floors take for a session
TARGET = "/org-0/secret"
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream application {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  upstream full {{ server 127.0.0.1:{full}; keepalive 256; keepalive_requests 1000000000; }}
  upstream doorward {{ server 127.0.0.1:9301; keepalive 256; keepalive_requests 1000000000; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost:9300;
  server {{ listen 127.0.0.1:{proxy}; location / {{ proxy_pass http://application; }} }}
  {gates}
}}
"""
GATE = """
  server {{
    listen 127.0.0.1:{port}; root {folder}/www;
    location / {{ auth_request /_gate; auth_request_set $user $upstream_http_remote_user; add_header X-User $user; try_files /page =404; }}
    location = /_gate {{
      internal; proxy_pass {url}; proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_set_header X-Original-Method $request_method; proxy_set_header X-Original-URL http://localhost:9300$request_uri;
    }}
  }}
"""


@contextlib.contextmanager
def nginx():
    folder = f"{stage.TMP}/nginx"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(f"{folder}/www")
    open(f"{folder}/www/page", "w").write("ok")
    os.chmod(folder, 0o755)
    gates = "".join(
        GATE.format(port=port, folder=folder, url=url)
        for port, url in ((NGINX_FULL, "http://full/auth"), (NGINX_DOORWARD, "http://doorward/auth-request"))
    )
    with open(f"{folder}/nginx.conf", "w") as file:
        file.write(NGINX.format(folder=folder, upstream=stage.UPSTREAM, full=FULL, proxy=NGINX_PROXY, gates=gates))
    # Its worker must end with it: SIGKILL leaves the worker, so it is asked.
    process = subprocess.Popen(["taskset", "-c", stage.SERVER_CPU, "nginx", "-p", folder, "-c", f"{folder}/nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wrk(port, path, headers, connections, seconds):
    arguments = ["taskset", "-c", stage.LOAD_CPU, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    for header in headers:
        arguments += ["-H", header]
    out = subprocess.run([*arguments, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        sys.exit(f"port {port}{path} refuses:\n{out}")
    p99, unit = re.search(r"^\s+99%\s+([\d.]+)(us|ms|s)", out, re.M).groups()
    return int(re.search(r"(\d+) requests in", out).group(1)), float(p99) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


class Way:
    """A way of the gate, or its floor: how it is asked, and whose CPU counts."""

    def __init__(self, name, port, path, headers, processes, floor=None, bar=None, also=None):
        self.name, self.port, self.path, self.headers, self.processes = name, port, path, headers, processes
        self.floor, self.bar, self.also = floor, bar, also

    def cpu_us(self):
        return sum(stage.cpu_us(process().pid) for process in self.processes)

    def measure(self, connections, seconds):
        before = self.cpu_us()
        answers, p99 = wrk(self.port, self.path, self.headers, connections, seconds)
        return (self.cpu_us() - before) / answers, p99

    def p99_at_a_fixed_rate(self):
        headers = [word for header in self.headers for word in ("--header", header) if not header.startswith(("Host:", "Cookie:"))]
        host, cookie = (next(h.split(": ", 1)[1] for h in self.headers if h.startswith(name)) for name in ("Host", "Cookie"))
        host = host.split(":")[0]
        done = stage.driver("check", "--url", f"http://{host}:{self.port}{self.path}", "--cookie", cookie, *headers, "--seconds", "5", "--conns", "8", "--rate", "300")
        if done["failed"]:
            sys.exit(f"{self.name}: {done}")
        return done["p99_us"]


def ways(served, floors, cookie, on_host):
    own = ["Host: localhost:9300", f"Cookie: {cookie}"]
    hub = ["Host: hub.localhost:9300", f"Cookie: {on_host}"]
    doorward = lambda: served.process
    asked = ["X-Original-Method: GET", f"X-Original-URL: http://localhost:9300{TARGET}"]
    forwarded = ["X-Forwarded-Method: GET", "X-Forwarded-Proto: http", "X-Forwarded-Host: localhost:9300", f"X-Forwarded-Uri: {TARGET}"]
    full, proxy, headers, web = (lambda one=one: one for one in floors)
    return [
        Way("floor full", FULL, "/auth", own + asked, [full]),
        Way("/auth-request", 9301, "/auth-request", own + asked, [doorward], "floor full", 1.25),
        Way("/forward-auth", 9301, "/forward-auth", own + forwarded, [doorward], "floor full", 1.25),
        Way("floor-proxy", FLOOR_PROXY, TARGET, hub, [proxy]),
        # The same octets to the application as from Doorward: what the contract's headers cost whoever sends them.
        Way("floor-proxy headers", FLOOR_HEADERS, TARGET, hub, [headers], "floor-proxy"),
        Way("built-in proxy", 9300, TARGET, hub, [doorward], "floor-proxy", 1.25, also="floor-proxy headers"),
        Way("nginx proxy_pass", NGINX_PROXY, TARGET, hub, [web], "floor-proxy"),
        Way("nginx, full", NGINX_FULL, TARGET, own, [web, full]),
        Way("nginx, Doorward", NGINX_DOORWARD, TARGET, own, [web, doorward], "nginx, full", 1.15),
    ]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--connections", default="1,16,64,256")
    arguments.add_argument("--seconds", type=float, default=1)
    given = arguments.parse_args()
    connections = [int(one) for one in given.connections.split(",")]
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(stage.Served("small"))
        stack.enter_context(stage.running([f"{stage.BIN}/floor", "--hyper", str(stage.UPSTREAM)], stage.LOAD_CPU))
        full = stack.enter_context(stage.running([f"{stage.BIN}/floor", "--full", str(FULL)], stage.SERVER_CPU))
        floor_proxy = f"{stage.HERE}/floor-proxy/target/release/floor-proxy"
        proxy = stack.enter_context(stage.running([floor_proxy, str(FLOOR_PROXY), str(stage.UPSTREAM)], stage.SERVER_CPU))
        headers = stack.enter_context(stage.running([floor_proxy, str(FLOOR_HEADERS), str(stage.UPSTREAM), "headers"], stage.SERVER_CPU))
        web = stack.enter_context(nginx())
        time.sleep(0.5)
        # The first session is org-0's, and the driver starts with the first account.
        served.logins(500)
        lines = [line.rstrip("\n").split("\t") for line in open(f"{served.folder}/signed-in")]
        cookie = next(cookie for organization, cookie in lines if organization == "org-0")
        on_host = served.hand_over(cookie, TARGET)
        all_ways = ways(served, (full, proxy, headers, web), f"{cookie}; {SID}", f"{on_host}; {SID}")
        cpu = {way.name: {n: [] for n in connections} for way in all_ways}
        p99, cold, warm = {way.name: [] for way in all_ways}, [], []
        for n in range(given.rounds):
            for many in connections:
                for way in all_ways if n % 2 == 0 else all_ways[::-1]:
                    cpu[way.name][many].append(way.measure(many, given.seconds)[0])
            for way in all_ways:
                p99[way.name].append(way.p99_at_a_fixed_rate())
            served.restart()
            few = ("--count", len(lines) // 4, "--seconds", 3600, "--conns", 8)
            cold.append(served.check(f"{served.folder}/signed-in", *few)["cpu_us_each"])
            served.check(f"{served.folder}/signed-in", "--count", 4 * len(lines), "--seconds", 3600, "--conns", 8)
            warm.append(served.check(f"{served.folder}/signed-in", "--count", 5_000, "--seconds", 3600, "--conns", 8)["cpu_us_each"])
            print(f"round {n + 1} of {given.rounds}: {stage.load()}", file=sys.stderr, flush=True)
        show(all_ways, connections, cpu, p99)
        print(f"\na check by sessions that are not in the cache: {statistics.median(cold):.0f} us; by random ones that are: {statistics.median(warm):.1f} us")


def show(all_ways, connections, cpu, p99):
    print(f"\nCPU us a request, medians of the rounds, and x its floor (range); {stage.load()}\n")
    print("| way | " + " | ".join(f"{n} conn." for n in connections) + " | p99 us at 300/s |")
    print("| --- " * (len(connections) + 2) + "|")
    verdicts = []
    for way in all_ways:
        cells = []
        for n in connections:
            cell = f"{statistics.median(cpu[way.name][n]):.1f}"
            if way.floor:
                ratios = [one / floor for one, floor in zip(cpu[way.name][n], cpu[way.floor][n])]
                ratio = statistics.median(ratios)
                cell += f" = {ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
                if way.also:
                    besides = [one / floor for one, floor in zip(cpu[way.name][n], cpu[way.also][n])]
                    verdicts.append((f"CPU, {way.name} x {way.also}, {n} connections", statistics.median(besides), way.bar))
                if way.bar:
                    verdicts.append((f"CPU, {way.name} x {way.floor}, {n} connections", ratio, way.bar))
            cells.append(cell)
        cell = f"{statistics.median(p99[way.name]):.0f}"
        if way.bar:
            ratio = statistics.median([one / floor for one, floor in zip(p99[way.name], p99[way.floor])])
            cell += f" = {ratio:.2f}"
            verdicts.append((f"p99 at 300/s, {way.name} x {way.floor}", ratio, 1.5))
        print(f"| {way.name} | " + " | ".join(cells) + f" | {cell} |")
    print()
    for what, ratio, bar in verdicts:
        stage.judged(what, ratio, bar)


if __name__ == "__main__":
    main()
