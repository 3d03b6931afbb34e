// Git itself, with a personal access token, through each way to the real server of git: list, clone, push.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { TOKENS } from '../support/gate_cases.js';
import { HOST, openHouse } from '../support/gate_stage.js';
import { run, stopEverything, temporaryFolder } from '../support/processes.js';
import { PROXIES } from '../support/proxies.js';
import { hashOf, tokenOf } from '../support/token.js';

// Who may only read may fetch, although git asks for it by POST (docs/operator.md).
const RULES = '[{ methods = ["POST"], path = "/{org}/{resource}/git-upload-pack", role = "read" }]';
const IDENTITY = ['-c', 'user.name=Mira', '-c', 'user.email=mira@acme.example', '-c', 'init.defaultBranch=main'];
const WRITES = tokenOf(60);

let house;
let application;
let folder;
const users = [];
before(async () => {
  folder = await temporaryFolder('git');
  application = createServer(backend);
  await new Promise((resolve) => application.listen(0, '127.0.0.1', resolve));
  house = await openHouse();
});
after(async () => {
  application?.close();
  await house?.close();
  await stopEverything();
});

/** The CGI program that comes with git (git-http-backend(1)). It believes Remote-User, as an application behind a gate does. */
function backend(request, response) {
  const { pathname, search } = new URL(request.url, 'http://application');
  if (!pathname.includes('.git/')) return response.end('a page'); // the stage asks for one
  users.push(request.headers['remote-user']);
  const program = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env.PATH, GIT_PROJECT_ROOT: join(folder, 'served'), GIT_HTTP_EXPORT_ALL: '1', PATH_INFO: pathname, QUERY_STRING: search.slice(1),
      REQUEST_METHOD: request.method, CONTENT_TYPE: request.headers['content-type'] ?? '', REMOTE_USER: request.headers['remote-user'] ?? '',
      GIT_PROTOCOL: request.headers['git-protocol'] ?? '', HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
    },
  });
  request.pipe(program.stdin).on('error', () => {});
  const parts = [];
  program.stdout.on('data', (part) => parts.push(part)).on('end', () => {
    const all = Buffer.concat(parts);
    const end = all.indexOf('\r\n\r\n');
    for (const line of all.subarray(0, end).toString().split('\r\n')) {
      const [name, value] = line.split(': ');
      if (name === 'Status') response.statusCode = Number.parseInt(value, 10);
      else response.setHeader(name, value);
    }
    response.end(all.subarray(end + 4));
  });
}

for (const proxy of Object.keys(PROXIES)) {
  test(`git lists, clones and pushes with a token, and without one it doesn't, through ${proxy}`, { timeout: 120_000 }, async () => {
    const place = join(folder, proxy);
    const git = (...args) => run('git', 'git', [...IDENTITY, ...args], { env: { GIT_TERMINAL_PROMPT: '0', GIT_CONFIG_NOSYSTEM: '1', HOME: folder, LC_ALL: 'C' } });
    await git('init', '-q', place);
    await writeFile(join(place, 'plans.txt'), 'secret plans');
    await git('-C', place, 'add', '.');
    await git('-C', place, 'commit', '-q', '-m', 'Plans');
    await git('clone', '-q', '--bare', place, join(folder, 'served/acme', `${proxy}.git`));

    const stage = await house.open(proxy, application.address().port, { rules: RULES });
    try {
      const at = (token) => `http://${token ? `me:${token}@` : ''}${HOST}:${stage.port}/acme/${proxy}.git`;
      const found = await git('-c', 'protocol.version=2', 'ls-remote', at(TOKENS.mira));
      assert.match(found, /refs\/heads\/main/);
      const copy = `${place}-copy`;
      await git('clone', '-q', at(TOKENS.mira), copy);
      assert.equal(await git('-C', copy, 'show', 'HEAD:plans.txt'), 'secret plans');
      assert.ok(users.length > 0 && users.every((user) => user === 'mira'), `${users}`);

      // More than git sends in one piece: it asks first, then streams.
      await writeFile(join(copy, 'large'), randomBytes(3 << 20));
      await git('-C', copy, 'add', '.');
      await git('-C', copy, 'commit', '-q', '-m', 'More');
      await assert.rejects(git('-C', copy, 'push', '-q', 'origin', 'HEAD:main'), /403/, 'a token that may only read');
      await stage.sqlChange(`INSERT INTO access_token (id, token_hash, account_id, name, ceiling, created_at, expires_at)
        SELECT '00000000-0000-7000-8000-000000000060', '${hashOf(WRITES)}', account_id, 'git', 'write', created_at, expires_at
        FROM access_token WHERE token_hash = '${hashOf(TOKENS.mira)}' ON CONFLICT DO NOTHING;
        INSERT INTO token_authorization (token_id, organization_id, epoch, authorized_at)
        SELECT '00000000-0000-7000-8000-000000000060', organization_id, epoch, authorized_at FROM token_authorization
        WHERE token_id <> '00000000-0000-7000-8000-000000000060' ON CONFLICT DO NOTHING`);
      await until(() => git('ls-remote', at(WRITES)));
      await git('-C', copy, 'push', '-q', at(WRITES), 'HEAD:main');
      assert.match(await git('ls-remote', at(TOKENS.mira)), new RegExp(`${(await git('-C', copy, 'rev-parse', 'HEAD')).trim()}\\s+refs/heads/main`));

      for (const [token, why] of [[undefined, /could not read Username/], [TOKENS.alex, /403/], [tokenOf(77), /Authentication failed/]]) {
        await assert.rejects(git('ls-remote', at(token)), why, `${token}`);
      }
    } finally {
      await stage.close();
    }
  });
}

/** Until the node has read the change. */
async function until(works) {
  for (let tries = 0; ; tries++) {
    try {
      return await works();
    } catch (error) {
      if (tries > 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
