"""What at_size.py, rush.py and ways.py share: databases, and one Doorward served over one of them. Standard library only.

From the environment: PEERS (the comparison harness, built), DOORWARD (a release binary; target/release/doorward), and
PEERS_TMP (/tmp/doorward-bench), where databases are kept from run to run: `small` has ten organizations and 6,007
accounts, `large` the same and 100,000 organizations with 1,000,000 accounts and sessions more (BENCH_FILLER makes it
smaller for a trial). A service runs on processor 0, what asks it on processor 1.
"""
import contextlib, http.client, json, os, shutil, signal, sqlite3, subprocess, sys, tempfile, time, urllib.parse, urllib.request

import sessions

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.realpath(os.environ.get("PEERS") or sys.exit("PEERS: the folder of the comparison harness"))
BIN = f"{PEERS}/target/release"
DOORWARD = os.path.realpath(os.environ.get("DOORWARD", f"{HERE}/../target/release/doorward"))
TMP = os.environ.get("PEERS_TMP", "/tmp/doorward-bench")
FILLER = int(os.environ.get("BENCH_FILLER", "1000000"))
SERVER_CPU, LOAD_CPU = ("0", "1") if os.cpu_count() > 1 else ("0", "0")
ACCOUNTS, ORGANIZATIONS = 6007, 10
UPSTREAM = 9295
CONFIGURATION = f"""
base_url = "http://localhost:9300"
listen = "127.0.0.1:9300"
database = "sqlite:data/doorward.db"
master_key_file = "data/master.key"
[sqlite]
synchronous = "full"
[log]
level = "warn"
[gate]
listen = "127.0.0.1:9301"
trusted_proxies = ["127.0.0.1"]
[outbound]
allow = ["127.0.0.1:9100"]
[[app]]
name = "own"
host = "localhost:9300"
upstream = "http://127.0.0.1:{UPSTREAM}"
organization = ["/{{org}}/{{resource}}/**", "/{{org}}/**"]
[[app]]
name = "hub"
host = "hub.localhost:9300"
upstream = "http://127.0.0.1:{UPSTREAM}"
organization = ["/{{org}}/{{resource}}/**", "/{{org}}/**"]
"""


@contextlib.contextmanager
def running(arguments, cpu, **more):
    """A process on one processor, ended with the block."""
    process = subprocess.Popen(["taskset", "-c", cpu, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def provider():
    return running([f"{BIN}/mock-op", "--port", "9100"], LOAD_CPU, cwd=PEERS)


def data(which):
    """The folder of a database, `small` or `large`, made if it is not there (large: some minutes, 2 GB)."""
    migrations = subprocess.run(f"cat {HERE}/../migrations/*.sql | sha256sum", shell=True, capture_output=True, text=True).stdout[:12]
    folder = f"{TMP}/data-{which}-{migrations}" + (f"-{FILLER}" if which == "large" else "")
    if os.path.isdir(folder):
        return folder
    shutil.rmtree(f"{folder}.new", ignore_errors=True)
    if which == "small":
        os.makedirs(f"{folder}.new/made")
        environment = dict(
            os.environ, DIR=f"{folder}.new/made", BENCH=HERE, DOORWARD=DOORWARD, TMP_BASE=TMP, OP="http://127.0.0.1:9100",
            ACCOUNTS=str(ACCOUNTS), N=str(ORGANIZATIONS), SYNCHRONOUS="full",
        )
        with provider():
            time.sleep(0.5)
            subprocess.run([f"{HERE}/prepare.sh"], env=environment, check=True)
        for file in os.listdir(f"{folder}.new/made/data"):
            shutil.move(f"{folder}.new/made/data/{file}", f"{folder}.new/{file}")
        shutil.rmtree(f"{folder}.new/made")
    else:
        shutil.copytree(data("small"), f"{folder}.new")
        many = ["--organizations", str(FILLER // 10), "--accounts", str(FILLER), "--sessions", str(FILLER)]
        subprocess.run([sys.executable, f"{HERE}/seed.py", "sqlite", f"{folder}.new/doorward.db", *many], check=True)
    os.rename(f"{folder}.new", folder)
    return folder


class Served:
    """Doorward over a copy of a database, for one block; `restart` empties what it remembers."""

    def __init__(self, which, password_of=None):
        self.folder = tempfile.mkdtemp(prefix="served-", dir=TMP)
        self.next_login = 0
        shutil.copytree(data(which), f"{self.folder}/data")
        if password_of:
            # Hashing one for each account would take longer than all the rest.
            with contextlib.closing(sqlite3.connect(f"{self.folder}/data/doorward.db")) as db:
                db.execute("UPDATE account SET password_hash = (SELECT password_hash FROM account WHERE name_key = ?) WHERE password_hash IS NULL", (password_of,))
                db.commit()
        self.configure()
        with open(f"{self.folder}/accounts", "w") as file:
            for n in range(ACCOUNTS):
                file.write(f"{n}\tdoorward-session={sessions.token(n, 'session')}; doorward-browser={sessions.token(n, 'browser')}\n")

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.stack.callback(shutil.rmtree, self.folder)
        self.stack.enter_context(provider())
        self.process = None
        self.stack.callback(self.stop)
        self.start()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def configure(self, more=""):
        """Writes the configuration; `more`: lines for the application `hub`. Counts from the next start."""
        with open(f"{self.folder}/doorward.toml", "w") as file:
            file.write(CONFIGURATION + more)

    def start(self, *under):
        self.process = subprocess.Popen(
            ["taskset", "-c", SERVER_CPU, *under, DOORWARD, "serve", "--config", "doorward.toml"],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=open(f"{self.folder}/log", "w"),
        )
        for _ in range(1200):
            try:
                urllib.request.urlopen("http://localhost:9300/readyz")
                return
            except OSError:
                time.sleep(0.1)
            if self.process.poll() is not None:
                break
        sys.exit(f"Doorward does not become ready: {open(f'{self.folder}/log').read()[-2000:]}")

    def stop(self, with_=signal.SIGKILL):
        if self.process:
            self.process.send_signal(with_)
            self.process.wait()
            self.process = None

    def restart(self):
        self.stop(signal.SIGTERM)
        self.start()

    def cpu_us(self):
        return cpu_us(self.process.pid)

    def private_bytes(self):
        lines = open(f"/proc/{self.process.pid}/smaps_rollup").read().splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Private_Clean:")))

    def check(self, cookies, *arguments, url="http://localhost:9301/auth-request", target="http://localhost:9300/{org}/secret"):
        """Checks by random ones of these sessions; what the driver says, with the CPU of each."""
        headers = ["--header", "X-Original-Method: GET", "--header", f"X-Original-URL: {target}", "--want-header", "remote-user"]
        before = self.cpu_us()
        done = driver("check", "--url", url, "--cookies", cookies, *headers, *map(str, arguments))
        if done["failed"]:
            sys.exit(f"checks failed: {done}")
        done["cpu_us_each"] = (self.cpu_us() - before) / done["ok"]
        return done

    def hand_over(self, cookie, target, host="hub.localhost:9300"):
        """The cookie of a session on an application's host of its own, for who has this one on ours."""
        own, on_host, url = cookie, "", f"http://{host}/.doorward/start?next={target}"
        for _ in range(5):
            address = urllib.parse.urlsplit(url)
            ours = address.netloc == "localhost:9300"
            connection = http.client.HTTPConnection("127.0.0.1", 9300)
            connection.request("GET", f"{address.path}?{address.query}", headers={"Host": address.netloc, "Cookie": own if ours else on_host, "Accept": "text/html"})
            answer = connection.getresponse()
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie" and not ours:
                    on_host = value.split(";")[0]
                    if on_host.startswith("doorward-app="):
                        return on_host
            url = urllib.parse.urljoin(url, answer.getheader("Location") or sys.exit(f"no hand-over: {answer.status} at {url}"))
        sys.exit(f"no hand-over: {url}")

    def logins(self, count):
        """CPU in ms of one login, each by a pair of account and organization that has not signed in yet. The sessions are in `signed-in`."""
        before = self.cpu_us()
        done = driver(
            "logins", "--start", "http://localhost:9300/organizations/{org}/sso?next=/healthz", "--confirm", "http://localhost:9301/auth-request",
            "--header", "X-Original-Method: GET", "--header", "X-Original-URL: http://localhost:9300/{org}/secret", "--want-header", "remote-user",
            "--want-value", "user-", "--login-cookies", f"{self.folder}/accounts", "--orgs", str(ORGANIZATIONS), "--op-user", "user-{account}@example.test",
            "--op-port", "9100", "--conc", "8", "--index", str(self.next_login), "--count", str(count), "--seconds", "3600",
            "--cookies-out", f"{self.folder}/signed-in",
        )
        self.next_login += count
        if done.get("failed"):
            sys.exit(f"logins failed: {done}")
        return (self.cpu_us() - before) / 1000 / count


def cpu_us(pid):
    """User and system time of a process and its children's."""
    total = 0
    for one in [pid, *map(int, open(f"/proc/{pid}/task/{pid}/children").read().split())]:
        fields = open(f"/proc/{one}/stat").read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total * 1_000_000 // os.sysconf("SC_CLK_TCK")


def driver(*arguments):
    answer = subprocess.run(["taskset", "-c", LOAD_CPU, f"{BIN}/driver", *arguments], capture_output=True, text=True)
    if answer.returncode:
        sys.exit(answer.stderr)
    return json.loads(answer.stdout)


def judged(what, value, bar, more=""):
    """Prints a figure beside its bar. A missed one is no error: on a machine that is not quiet it says little."""
    print(f"{'MISSED' if value > bar else 'ok':6}  {what}: {value:.2f} (at most {bar}){more}", flush=True)


def load():
    return f"load average {os.getloadavg()[0]:.1f}"
