// The snippet of docs/gate.md by itself, against a gate that answers what the test tells it: what a reader of the document
// relies on before Doorward has said a word.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { ask as request } from './http.js';
import { freePort, stopEverything } from './processes.js';
import { startNginx } from './nginx.js';

const servers = [];
let port;
let gate; // (question) => {status, headers}
let asked;
let main;
let application;
let mainStatus;
let applicationHeaders;

before(async () => {
  const [gatePort, mainPort, applicationPort] = await Promise.all([
    listen((question, answer) => {
      asked.push({ at: 'gate', method: question.method, url: question.url, headers: question.headers });
      const { status, headers = {} } = gate(question);
      answer.writeHead(status, headers).end();
    }),
    listen((question, answer) => {
      main.push({ method: question.method, url: question.url, headers: question.headers });
      answer.writeHead(mainStatus, { 'content-type': 'text/plain' }).end('doorward');
    }),
    listen((question, answer) => {
      application.push({ method: question.method, url: question.url, headers: question.headers });
      answer.writeHead(200, question.url.startsWith('/static/') ? applicationHeaders : {}).end('application');
    }),
  ]);
  port = await freePort();
  await startNginx({
    port,
    doorward: `127.0.0.1:${mainPort}`,
    gate: `127.0.0.1:${gatePort}`,
    application: `127.0.0.1:${applicationPort}`,
    ssoHost: 'localhost',
    applicationHost: 'hub.localhost',
  });
});

beforeEach(() => {
  [asked, main, application] = [[], [], []];
  gate = () => ({ status: 200 });
  mainStatus = 200;
  applicationHeaders = {};
});

after(async () => {
  await stopEverything();
  servers.forEach((server) => server.close());
});

test('the gate is asked about the path as the browser sent it, and the application gets that same path', async () => {
  const path = '/acme/secret//x/..%2f?q=%41&next=https://hub.example.com';
  await ask('/acme/secret/x%20y?q=%41&a=b');
  assert.equal(asked[0].url, '/auth-request');
  assert.equal(asked[0].headers['x-original-url'], `http://hub.localhost:${port}/acme/secret/x%20y?q=%41&a=b`);
  assert.equal(application[0].url, '/acme/secret/x%20y?q=%41&a=b');
  await ask(path);
  assert.equal(asked[1].headers['x-original-url'], `http://hub.localhost:${port}${path}`);
  assert.equal(application[1].url, path);
});

test('the host that is judged is the one in the configuration, whatever the request says', async () => {
  await raw(`GET http://hub.localhost:${port}/acme/secret HTTP/1.1\r\nHost: other.localhost\r\nConnection: close\r\n\r\n`);
  assert.equal(asked[0].headers['x-original-url'], `http://hub.localhost:${port}/acme/secret`);
});

test('identity headers come from the gate, and what a browser sends under their names is dropped', async () => {
  gate = () => ({ status: 200, headers: { 'Remote-User': 'mira', 'Doorward-Account': 'acc_1', 'Doorward-Sso': 'complete', Cookie: 'theme=dark' } });
  await ask('/acme/secret', {
    'Remote-User': 'root',
    Remote_User: 'root',
    'Remote-Groups': 'admins',
    'Doorward-Role': 'admin',
    'Doorward-Assertion': 'forged',
    Cookie: 'theme=dark; doorward-app=secret',
  });
  const { headers } = application[0];
  assert.equal(headers['remote-user'], 'mira');
  assert.equal(headers['doorward-account'], 'acc_1');
  assert.equal(headers['doorward-sso'], 'complete');
  assert.equal(headers.cookie, 'theme=dark');
  for (const name of ['remote_user', 'remote-groups', 'remote-name', 'remote-email', 'doorward-role', 'doorward-organization', 'doorward-assertion']) {
    assert.equal(headers[name], undefined, name);
  }
});

test('another method or address can not be smuggled past the gate in a header', async () => {
  await ask('/acme/x', { 'X-Original-URL': '/public', 'X-Original-Method': 'GET', 'X-Rewrite-URL': '/y', 'X-HTTP-Method-Override': 'DELETE' }, 'POST');
  assert.equal(asked[0].headers['x-original-method'], 'POST');
  assert.equal(asked[0].headers['x-original-url'], `http://hub.localhost:${port}/acme/x`);
  for (const name of ['x-original-url', 'x-original-method', 'x-rewrite-url', 'x-http-method-override']) {
    assert.equal(application[0].headers[name], undefined, name);
  }
});

test('V10: a path that the application names in its answer is not served without a question about it', async () => {
  applicationHeaders = { 'X-Accel-Redirect': '/acme/secret' };
  const answer = await ask('/static/x.css');
  assert.deepEqual(application.map(({ url }) => url), ['/static/x.css']);
  assert.equal(answer.headers['x-accel-redirect'], undefined);
});

test('a 401 with a Location becomes a redirect that nobody may keep', async () => {
  gate = () => ({ status: 401, headers: { Location: 'http://localhost/sso', 'Doorward-Status': '401' } });
  const answer = await ask('/acme/secret');
  assert.deepEqual([answer.status, answer.headers.location, answer.headers['cache-control']], [302, 'http://localhost/sso', 'no-store']);
  assert.equal(application.length, 0);
});

for (const real of [400, 401, 403, 503]) {
  test(`a refusal that is really a ${real} is answered by Doorward's own page`, async () => {
    gate = () => ({ status: real === 401 ? 401 : 403, headers: { 'Doorward-Status': `${real}` } });
    mainStatus = real;
    const answer = await ask('/acme/secret', { 'Content-Type': 'text/plain' }, 'POST', 'body');
    assert.deepEqual([answer.status, answer.body], [real, 'doorward']);
    const [question] = main;
    assert.deepEqual([question.method, question.url, question.headers.host], ['GET', '/.doorward/answer', `hub.localhost:${port}`]);
    assert.equal(question.headers['x-original-url'], `http://hub.localhost:${port}/acme/secret`);
    assert.equal(question.headers['x-original-method'], 'POST');
    assert.equal(application.length, 0);
  });
}

test('what the gate saw reaches the page, and what a browser says it saw does not', async () => {
  const sent = { 'Doorward-Code': 'gate.untrusted_proxy' };
  gate = () => ({ status: 403, headers: { 'Doorward-Status': '403', 'Doorward-Code': 'gate.forbidden' } });
  await ask('/acme/secret', sent);
  gate = () => ({ status: 403, headers: { 'Doorward-Status': '403' } });
  await ask('/acme/secret', sent);
  assert.deepEqual(main.map(({ headers }) => headers['doorward-code']), ['gate.forbidden', undefined]);
});

for (const status of [302, 400, 404, 429, 500, 503]) {
  test(`rule_15_a_gate_that_answers_${status}_lets_nobody_in`, async () => {
    gate = () => ({ status });
    const answer = await ask('/acme/secret');
    assert.equal(answer.status, 503);
    assert.equal(answer.headers['retry-after'], '5');
    assert.equal(application.length, 0);
  });
}

test('the gate can not be asked from outside, and the share of Doorward on this host keeps the host', async () => {
  assert.equal((await ask('/_doorward_gate')).status, 404);
  await ask('/.doorward/take-over?ticket=t', { Host: 'hub.localhost' });
  assert.deepEqual([main[0].url, main[0].headers.host], ['/.doorward/take-over?ticket=t', `hub.localhost:${port}`]);
  assert.equal(asked.length, 0);
});

test('a path that climbs out of /.doorward/ is judged', async () => {
  gate = () => ({ status: 403, headers: { 'Doorward-Status': '400' } });
  mainStatus = 400;
  assert.equal((await raw(`GET /.doorward/../acme/secret HTTP/1.1\r\nHost: hub.localhost\r\nConnection: close\r\n\r\n`)).slice(0, 12), 'HTTP/1.1 400');
  assert.equal(asked[0].headers['x-original-url'], `http://hub.localhost:${port}/.doorward/../acme/secret`);
});

test('a WebSocket upgrade is shown to the gate and passed on', async () => {
  await raw(`GET /acme/live HTTP/1.1\r\nHost: hub.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n`, /HTTP\/1.1 200/);
  assert.equal(asked[0].headers.upgrade, 'websocket');
  assert.deepEqual([application[0].headers.upgrade, application[0].headers.connection], ['websocket', 'upgrade']);
});

function listen(handler) {
  const server = createServer(handler);
  servers.push(server);
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

const ask = (path, headers = {}, method = 'GET', body = '') => request(port, path, { headers: { Host: 'hub.localhost', ...headers }, method, body });

/** Sends these very bytes; returns what came back when the connection ends, or as soon as it matches `until`. */
function raw(text, until) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(text));
    let seen = '';
    socket.setEncoding('utf8').on('data', (part) => {
      seen += part;
      if (until?.test(seen)) socket.destroy();
    });
    socket.on('close', () => resolve(seen));
    socket.on('error', reject);
  });
}
