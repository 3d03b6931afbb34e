// Starts and stops the programs that a journey needs, always by process id, never by name.
// Goes in: a command line. Comes out: a handle with its log and `stop()`.
// Never here: what the programs are. Invariant: nothing started here outlives this node process.
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { rmSync } from 'node:fs';
import { mkdtemp, rm, chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LOG_LINES_KEPT = 400;
const running = new Set();
const folders = new Set();

// Below the range that the kernel gives to outgoing connections, which would take a port between our look and its use.
const PORTS = { first: 10_240, count: 11_000 };

/**
 * A port of 127.0.0.1 that nobody listens on, this process's until it ends. Test files run side by side: a UDP socket
 * (on a port that is never given out) keeps each port for one of them. The tests in Rust do the same (testkit).
 */
export async function freePort() {
  for (;;) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
    const claim = createSocket('udp4').unref();
    if (!(await tryTo((done) => claim.once('error', done).bind({ port: port + PORTS.count, address: '127.0.0.1', exclusive: true }, done)))) continue;
    const server = createServer();
    const isFree = await tryTo((done) => server.once('error', done).listen(port, '127.0.0.1', done));
    if (isFree) await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
    claim.close();
  }
}

function tryTo(begin) {
  return new Promise((resolve) => begin((error) => resolve(!error)));
}

/** A new empty folder, removed when the tests end. `forEverybody`: other users (postgres, www-data) may enter. */
export async function temporaryFolder(name, { forEverybody = false } = {}) {
  const folder = await mkdtemp(join(tmpdir(), `doorward-e2e-${name}-`));
  if (forEverybody) await chmod(folder, 0o755);
  folders.add(folder);
  return folder;
}

/** One program in a process group of its own. */
class Program {
  constructor(name, child) {
    this.name = name;
    this.child = child;
    this.lines = [];
    this.exit = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
    this.exit.then((how) => {
      this.ended = how;
      running.delete(this);
    });
    for (const stream of [child.stdout, child.stderr]) collectLines(stream, (line) => this.#keep(line));
    running.add(this);
  }

  #keep(line) {
    this.lines.push(line);
    if (this.lines.length > LOG_LINES_KEPT) this.lines.shift();
    this.onLine?.(line);
  }

  /** What it printed, newest last. */
  log() {
    return `--- ${this.name} (process ${this.child.pid}) ---\n${this.lines.join('\n')}\n`;
  }

  /** Asks it to end, insists after `graceMs`. Safe to call twice. */
  async stop({ signal = 'SIGTERM', graceMs = 5000 } = {}) {
    if (this.ended) return this.ended;
    signalGroup(this.child.pid, signal);
    const insist = setTimeout(() => signalGroup(this.child.pid, 'SIGKILL'), graceMs);
    const how = await this.exit;
    clearTimeout(insist);
    return how;
  }
}

/**
 * Starts a program and waits until it is ready: until `ready.line` matches a printed line (the match is returned as
 * `handle.ready`), or until `ready.probe()` resolves to something truthy.
 */
export async function start(name, command, args, { env, cwd, uid, gid, ready = {}, timeoutMs = 30_000, input } = {}) {
  const child = spawn(command, args, {
    cwd,
    uid,
    gid,
    env: { ...process.env, ...env },
    detached: true,
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  const program = new Program(name, child);
  if (input !== undefined) child.stdin.end(input);
  const failed = new Promise((_, reject) => {
    child.once('error', (error) => reject(new Error(`${name} can't be started: ${error.message}`)));
    child.once('exit', (code, signal) => reject(new Error(`${name} ended at once (${code ?? signal})\n${program.log()}`)));
  });
  failed.catch(() => {});
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${name} was not ready after ${timeoutMs} ms\n${program.log()}`)), timeoutMs);
  });
  try {
    program.ready = await Promise.race([becomesReady(program, ready), failed, late]);
  } catch (error) {
    await program.stop({ signal: 'SIGKILL' });
    throw error;
  } finally {
    clearTimeout(timer);
  }
  return program;
}

/** Runs a program to its end and returns what it printed; throws with its log when it fails. */
export async function run(name, command, args, { env, cwd, uid, gid, input = '' } = {}) {
  const child = spawn(command, args, { cwd, uid, gid, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
  child.stdin.on('error', () => {}); // a program may end without reading
  child.stdin.end(input);
  const code = await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
  if (code !== 0) {
    throw Object.assign(new Error(`${name}: ${command} ${args.join(' ')} ended with ${code}\n${stdout}${stderr}`), { code, stdout, stderr });
  }
  return stdout;
}

/** The logs of everything that still runs: shown when a journey fails. */
export function allLogs() {
  return [...running].map((program) => program.log()).join('\n');
}

/** Ends what still runs and removes the folders. */
export async function stopEverything() {
  await Promise.all([...running].map((program) => program.stop()));
  await Promise.all([...folders].map((folder) => rm(folder, { recursive: true, force: true })));
  folders.clear();
}

async function becomesReady(program, { line, probe }) {
  if (line) {
    return new Promise((resolve) => {
      const look = (text) => {
        const match = line.exec(text);
        if (match) resolve(match);
      };
      program.lines.forEach(look);
      program.onLine = look;
    });
  }
  while (probe && !program.ended) {
    const answer = await probe().catch(() => undefined);
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return undefined;
}

function collectLines(stream, keep) {
  let rest = '';
  stream.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    lines.forEach(keep);
  });
  stream.on('end', () => rest && keep(rest));
}

function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

// A test that throws past its own clean-up, or Ctrl-C, must not leave programs behind.
process.once('exit', () => {
  running.forEach((program) => signalGroup(program.child.pid, 'SIGKILL'));
  folders.forEach((folder) => rmSync(folder, { recursive: true, force: true }));
});
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
