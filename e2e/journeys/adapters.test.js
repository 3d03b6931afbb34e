// One table of requests (support/gate_cases.js) through every way into an application: the built-in proxy, and each that
// docs/gate.md shows, with the document's own configuration; and a second for an application with a host for each organization,
// with what `doorward proxy-config` makes for it. No browser; requests are written byte for byte.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { createServer } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import { exchange, requestBytes } from '../support/exchange.js';
import { CASES, ELSEWHERE, FORGED, HOST_CASES, TOKENS } from '../support/gate_cases.js';
import { HOST, openHouse } from '../support/gate_stage.js';
import { BEHIND, OWN, openHosts } from '../support/hosts_stage.js';
import { stopEverything } from '../support/processes.js';
import { PROXIES } from '../support/proxies.js';

const IDENTITY = ['remote-user', 'remote-name', 'remote-email', 'remote-groups', 'doorward-account', 'doorward-organization', 'doorward-role', 'doorward-assertion', 'doorward-sso'];
/** Headers that are never the client's to say, beside those; as a server that maps names as CGI does reads them. */
const NOT_THE_CLIENTS = /^(x-(original|rewrite|override|http|script|sendfile|accel)-|x-method-override|x-host$|script-name$|path-info$|daphne-|forwarded$|proxy$|x-forwarded-(uri|method|prefix)$)/;
/** What each answers when it can't ask, as the table of docs/gate.md says. */
const UNREACHABLE = { nginx: 503, traefik: 500, caddy: 502, envoy: 503, haproxy: 503 };

const applications = [];
let house;
let openHost;
before(async () => {
  house = await openHouse();
  openHost = await openHosts();
});

after(async () => {
  await stopEverything();
  await house?.close();
  applications.forEach((server) => server.close());
});

// PROXIES=caddy,envoy runs those alone.
const wanted = process.env.PROXIES?.split(',') ?? Object.keys(PROXIES);
for (const proxy of wanted) {
  describe(`through ${proxy}`, () => {
    let stage;
    before(async () => {
      const application = await startApplication();
      const opened = await house.open(proxy, application.port);
      stage = { proxy, application, seen: [], host: HOST, scheme: 'http', own: `http://localhost:${opened.port}`, cookie: 'doorward-app', ...opened };
    });
    after(async () => {
      await stage?.close();
    });
    for (const row of CASES) test(`${row.name} (${proxy})`, () => played(stage, row));
    // The last: it takes Doorward away.
    test(`rule_15_when_doorward_is_gone_nobody_gets_in (${proxy})`, async () => {
      await stage.stopDoorward();
      stage.application.requests.length = 0;
      const asked = send(stage, { target: '/acme/secret', as: 'mira', headers: [], method: 'GET', version: '1.1' });
      if (proxy === 'builtin') await assert.rejects(asked);
      else assert.equal((await asked).status, UNREACHABLE[proxy]);
      assert.equal(stage.application.requests.length, 0, 'the application was reached');
    });
  });
}

for (const proxy of wanted) {
  describe(`a host for each organization, through ${proxy}`, () => {
    let stage;
    before(async () => {
      const application = await startApplication();
      const opened = await openHost(proxy, application.port);
      stage = { proxy, application, seen: [], host: `acme.${BEHIND}`, scheme: 'https', own: `https://${OWN}:${opened.port}`, cookie: '__Host-doorward-app', ...opened };
    });
    after(async () => {
      await stage?.close();
    });
    for (const row of HOST_CASES) test(`${row.name} (by host, ${proxy})`, () => played(stage, row));
    // The others' configurations are HTTP/1.1 for browsers.
    for (const beside of ['builtin', 'traefik', 'caddy'].includes(proxy) ? ['acme', 'globex', 'sso', 'a.acme'] : []) {
      test(`over HTTP/2 the authority counts, or nothing, beside the host ${beside} (by host, ${proxy})`, async () => {
        stage.application.requests.length = 0;
        const row = { target: '/plans', method: 'GET' };
        const status = await overHttp2(stage, { ':authority': `${stage.host}:${stage.port}`, host: `${beside}.${BEHIND}:${stage.port}`, ':path': row.target, cookie: `${stage.cookie}=${stage.cookies['mira at acme']}` });
        stage.seen = [...stage.application.requests];
        if (beside !== 'acme' && status !== 200) return assert.deepEqual([status < 500, stage.seen.length], [true, 0]);
        const identity = { 'remote-user': 'mira', 'remote-email': 'mira.holt@acme.example', 'doorward-organization': 'acme', 'doorward-role': 'write' };
        return checkAllowed(stage, row, { identity }, { status });
      });
    }
    test(`rule_11_a_hand_over_begins_and_ends_at_the_organizations_own_host (by host, ${proxy})`, () => {
      const steps = stage.way.map((step) => step.replace(/^\d+ https:/, '').replace(/\?.*/, ''));
      const [own, acme] = [`//${OWN}:${stage.port}`, `//acme.${BEHIND}:${stage.port}`];
      assert.equal(steps[0], `${acme}/.doorward/start`);
      assert.equal(steps.at(-1), `${acme}/.doorward/ticket`);
      assert.ok(steps.slice(1, -1).every((step) => step.startsWith(`${own}/`)), stage.way.join('\n'));
    });
  });
}

/** One request over HTTP/2; resolves with its status, or 0 where it is refused as none. */
function overHttp2({ host, port }, headers) {
  return new Promise((resolve, reject) => {
    const createConnection = () => connectTls({ host: '127.0.0.1', port, servername: host, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    const session = connectHttp2(`https://${host}:${port}`, { createConnection }).on('error', reject);
    const end = (status) => session.close(() => resolve(status));
    const stream = session.request(headers).on('error', (error) => (/PROTOCOL_ERROR/.test(error.message) ? end(0) : reject(error)));
    stream.on('response', ({ ':status': status }) => stream.resume().on('end', () => end(status)));
  });
}

async function played(stage, row) {
  try {
    await play(stage, row);
  } catch (error) {
    error.message += `\n${JSON.stringify({ answer: stage.last, application: stage.seen }, null, 1).slice(0, 4000)}`;
    throw error;
  }
}

function send(stage, row) {
  const { port } = stage;
  const host = row.host ?? stage.host;
  const named = row.absolute === true ? stage.host : row.absolute;
  const target = named ? `${stage.scheme}://${named}:${port}${row.target}` : row.target;
  const value = stage.cookies[row.as] ?? '';
  const ours = `${stage.cookie}=${value}`;
  const cookies = (row.cookies ?? (value ? ['OURS'] : [])).map((cookie) => cookie.replace('OURS', ours).replace('VALUE', value));
  const headers = [
    ['Host', `${host}${row.port ?? `:${port}`}`],
    ...row.headers,
    ...(row.extra ?? []).map(([name, text]) => [name, text.replace('OURS', ours).replace('PORT', port)]),
    ...(cookies.length > 0 ? [['Cookie', cookies.join('; ')]] : []),
    ['Connection', row.connection ?? 'close'],
  ];
  return exchange(port, requestBytes({ ...row, target, headers }), { afterwards: row.expect?.upgraded && 'ping', tls: stage.scheme === 'https' && (row.certificate ?? stage.host) });
}

async function play(stage, row) {
  stage.application.requests.length = 0;
  const answer = await send(stage, row);
  stage.last = { status: answer.status, headers: answer.headers, body: answer.body.slice(0, 600) };
  stage.seen = [...stage.application.requests];
  const early = row.early[stage.proxy];
  if (!early || early.kind) return check(stage, row, early ?? row.expect, answer);
  assert.equal(stage.seen.length, 0, 'the application was reached');
  if (early !== ELSEWHERE) assert.ok(early.includes(answer.status), `${stage.proxy} answers ${answer.status} by itself`);
  assert.throws(() => check(stage, row, row.expect, answer), undefined, `${stage.proxy} asks Doorward about this: take it off the row's list`);
}

function check(stage, row, expect, answer) {
  const hub = `${stage.scheme}://${row.judged ?? stage.host}:${stage.port}`;
  if (expect.kind === 'allow') return checkAllowed(stage, row, expect, answer);

  assert.equal(stage.seen.length, 0, 'the application was reached');
  if (expect.kind === 'own') {
    assert.deepEqual([answer.status, answer.header('content-security-policy') !== undefined], [expect.status, true], 'a page of Doorward');
    return assert.ok(!/data-error-code="(gate|request)\./.test(answer.body), 'the gate is not asked');
  }
  const locations = {
    'sign-in': () => `${hub}/.doorward/start?${new URLSearchParams({ next: expect.next })}`,
    'complete-sso': () => `${stage.own}/organizations/acme/sso?${new URLSearchParams({ next: hub + expect.next })}`,
  };
  const location = locations[expect.kind]?.();
  assert.equal(answer.status, location ? 302 : expect.status);
  assert.equal(answer.header('location'), location);
  if (!expect.code && !location) return undefined; // refused by a server before the gate
  assert.equal(answer.header('cache-control'), 'no-store');
  if (location || row.method === 'HEAD') {
    if (row.method === 'HEAD') assert.equal(answer.body, '');
    return undefined;
  }
  if (expect.kind === 'page') {
    assert.match(answer.header('content-type') ?? '', /^text\/html/);
    assert.match(answer.body, new RegExp(`data-error-code="${expect.code}"`));
    return undefined;
  }
  assert.match(answer.header('content-type') ?? '', /^application\/problem\+json/);
  const document = JSON.parse(answer.body);
  assert.equal(document.code, expect.code);
  assert.equal(document.status, expect.written ?? expect.status);
  if (expect.code?.startsWith('token.')) {
    // A program is led nowhere; its owner is told the page.
    assert.equal(answer.header('location'), undefined);
    assert.match(document.authorize_url ?? document.tokens_url, new RegExp(`^${stage.own}/settings/tokens`));
    return undefined;
  }
  if (expect.status === 401) assert.match(document.sign_in_url, new RegExp(`^(${hub}/[.]doorward/start|${stage.own}/organizations/acme/sso)[?]next=`));
  return undefined;
}

function checkAllowed(stage, row, expect, answer) {
  assert.equal(answer.status, expect.upgraded ? 101 : 200);
  assert.equal(stage.seen.length, 1, 'the application is asked once');
  const [seen] = stage.seen;
  assert.equal(seen.url, row.target);
  assert.equal(seen.method, row.method);
  // Whose host was judged is whose host the application reads, wherever the request named it (V03).
  const value = (name) => seen.headers.find(([known]) => known.toLowerCase() === name)?.[1].toLowerCase();
  const judged = `${row.judged ?? stage.host}:${stage.port}`;
  assert.deepEqual([value('host'), value('x-forwarded-host') ?? judged], [judged, judged]);
  if (expect.body !== undefined) assert.equal(seen.body, expect.body);
  if (expect.answers) assert.match(answer.body, expect.answers);
  if (expect.upgraded) assert.match(answer.raw, /ping/);
  else assert.ok(!seen.headers.some(([name]) => /^upgrade$/i.test(name)), 'the application is asked for another protocol');

  // Identity headers: each once, under its own name, with what is known; nothing else that could be read as one (V01, V02).
  const read = {};
  for (const [name, value] of seen.headers) {
    assert.ok(!value.includes(FORGED), `the application sees ${name}: ${value}`);
    const asCgiReadsIt = name.toLowerCase().replaceAll(/[^a-z0-9]/g, '-');
    assert.doesNotMatch(asCgiReadsIt, NOT_THE_CLIENTS);
    if (!IDENTITY.includes(asCgiReadsIt)) continue;
    assert.equal(name.toLowerCase(), asCgiReadsIt, 'spelled as ours');
    assert.equal(read[asCgiReadsIt], undefined, `${name} comes twice`);
    read[asCgiReadsIt] = value;
  }
  if (!expect.trailers) assert.ok(!seen.trailers.some((text) => text.includes(FORGED)), `the application sees ${seen.trailers} behind the body`);
  for (const name of IDENTITY) {
    if (['doorward-account', 'doorward-assertion', 'remote-name'].includes(name)) continue;
    assert.equal(read[name] ?? '', expect.identity[name] ?? '', name);
  }
  assert.equal(Boolean(read['doorward-account']), Boolean(expect.identity['remote-user']), 'an account where somebody is signed in');
  const assertion = read['doorward-assertion'] || undefined;
  const claims = assertion && JSON.parse(Buffer.from(assertion.split('.')[1], 'base64url').toString());
  assert.equal(claims?.sub, read['doorward-account'] || undefined, 'the assertion is about the same account');

  // Our cookies never (rule 11); the others letter by letter.
  const cookie = seen.headers.find(([name]) => name.toLowerCase() === 'cookie')?.[1];
  assert.ok(!cookie?.includes('doorward-'), `the application sees ${cookie}`);
  if ('cookie' in expect) assert.equal(cookie || undefined, expect.cookie);
  // Nor our tokens; what is not ours letter by letter.
  const authorization = seen.headers.find(([name]) => name.toLowerCase() === 'authorization')?.[1];
  assert.ok(!authorization?.includes('dwp_'), `the application sees ${authorization}`);
  assert.equal(authorization || undefined, expect.authorization);
  if (expect.header) assert.equal(seen.headers.find(([name]) => name.toLowerCase() === expect.header[0])?.[1], expect.header[1]);
}

/** An application that keeps what it is asked, streams events, and echoes on WebSockets. */
async function startApplication() {
  const requests = [];
  const keep = (request, body = '') => {
    const headers = [];
    for (let i = 0; i < request.rawHeaders.length; i += 2) headers.push([request.rawHeaders[i], request.rawHeaders[i + 1]]);
    requests.push({ method: request.method, url: request.url, headers, body, trailers: request.rawTrailers });
  };
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (part) => (body += part));
    request.on('end', () => {
      keep(request, body);
      if (request.url.startsWith('/acme/events')) {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.end('data: one\n\n');
      } else {
        response.writeHead(200, { 'content-type': 'text/plain' }).end('the application');
      }
    });
  });
  server.on('upgrade', (request, socket) => {
    keep(request);
    socket.on('error', () => {});
    const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    socket.pipe(socket);
  });
  applications.push(server);
  const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
  return { port, requests };
}
